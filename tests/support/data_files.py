"""The same rows as files of every format, and how they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.data import make_objective
from tailorbird.data import SourceRows, read_sources
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind

CELLS = [(f"message number {n}, said\nso", "ab"[n % 2]) for n in range(20)]


NAMES = ("d.csv", "d.tsv", "d.json", "d.jsonl", "d.parquet", "d")


def as_csv(separator: str = ",") -> str:
    return f"text{separator}label\n" + "".join(f'"{text}"{separator}{label}\n' for text, label in CELLS)


def as_json() -> str:
    return json.dumps([{"text": text, "label": label} for text, label in CELLS], indent=1)


def write_parquet(path: Path, **columns: Any) -> None:
    parquet.write_table(pa.table(columns), path, row_group_size=7)


def write_folder(folder: Path) -> None:
    for number, (text, label) in enumerate(CELLS):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:02}.txt").write_text(text, encoding="utf-8")


def fill(folder: Path) -> None:
    (folder / "d.csv").write_text(as_csv())
    (folder / "d.tsv").write_text(as_csv("\t"))
    (folder / "d.json").write_text(as_json())
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in CELLS))
    write_parquet(folder / "d.parquet", text=[text for text, _ in CELLS], label=[label for _, label in CELLS], other=[b"x"] * len(CELLS))
    write_folder(folder / "d")


def read(folder: Path, path: str, kind: TaskKind = TaskKind.CLASSIFY, **source: str) -> SourceRows:
    return read_sources(make_objective({"path": path, **source}, kind=kind), folder)


def refused(folder: Path, path: str, **source: str) -> DataInvalid:
    with pytest.raises(DataInvalid) as caught:
        read(folder, path, **source)
    assert caught.value.hint
    return caught.value
