"""Every format of data files: whatever bytes come, rows, rows set aside, or an error that says what to do."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from support.damage import damaged, ends_well, tries, values
from support.data import make_objective
from tailorbird.data import inspect_file, read_sources
from tailorbird.domain.objective import TaskKind

ROWS = [{"text": f"message {n} wörds", "label": "ab"[n % 2], "who": f"p{n % 5}"} for n in range(12)]


def _csv(separator: str = ",", encoding: str = "utf-8") -> bytes:
    lines = [separator.join(("text", "label", "who")), *(separator.join((f'"{r["text"]}"', r["label"], r["who"])) for r in ROWS)]
    return "\r\n".join(lines).encode(encoding)


def _parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out, **options)
    return out.getvalue()


def _tables() -> list[bytes]:
    plain = pa.Table.from_pylist(ROWS)
    nested = pa.table({"text": [r["text"] for r in ROWS], "label": [[r["label"]] * 3 for r in ROWS], "who": [{"a": n} for n in range(12)]})
    coded = plain.set_column(1, "label", plain["label"].dictionary_encode())
    return [
        _parquet(plain),
        _parquet(plain, compression="none"),
        _parquet(nested),
        _parquet(coded, compression="zstd", data_page_version="2.0"),
    ]


SEEDS: dict[str, list[bytes]] = {
    "d.csv": [_csv(), _csv(";"), _csv(encoding="utf-16")],
    "d.tsv": [_csv("\t")],
    "d.json": [json.dumps(ROWS).encode(), json.dumps({"data": ROWS}).encode(), json.dumps({"text": ["a"], "label": ["b"]}).encode()],
    "d.jsonl": ["\n".join(json.dumps(row) for row in ROWS).encode()],
    "d.parquet": _tables(),
}
CONVERSATIONS = [{"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}]} for n in range(6)]


def read_as(name: str, data: bytes, folder: Path, **source: str) -> None:
    (folder / name).write_bytes(data)
    kind = TaskKind.GENERATE if "messages" in source else TaskKind.CLASSIFY
    read_sources(
        make_objective({"path": name, "subject": "who", **source} if kind is TaskKind.CLASSIFY else {"path": name, **source}, kind=kind),
        folder,
    )


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files(name: str) -> None:
    @tries(30)
    @given(data=damaged(SEEDS[name]))
    def story(data: bytes) -> None:
        with TemporaryDirectory() as folder:
            ends_well(lambda: read_as(name, data, Path(folder)))
            ends_well(lambda: inspect_file(name, Path(folder), lambda *_: None))

    story()


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@tries(30)
@given(turns=st.lists(values() | st.fixed_dictionaries({"role": values(), "content": values()}), max_size=4))
def test_conversations_that_are_none(turns: list[Any]) -> None:
    data = b"\n".join(map(_encoded, [*CONVERSATIONS, {"messages": turns}]))
    with TemporaryDirectory() as folder:
        ends_well(lambda: read_as("d.jsonl", data, Path(folder), messages="messages"))
