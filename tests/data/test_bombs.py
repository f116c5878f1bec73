"""Small files that take the memory or the time of whoever reads them: refused by name of the limit, and nobody else suffers."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.data import make_objective
from support.memory import Growth
from tailorbird.data import inspect_file, read_sources
from tailorbird.domain.errors import DataInvalid
from tailorbird.system.sandbox.limits import SandboxLimits

#: What the reading process itself may grow by.
GROWTH = 300_000_000


def both_refuse(folder: Path, name: str, *codes: str) -> None:
    """Inspecting and curating refuse the file, with one of ``codes``."""
    growth = Growth()
    for read in (lambda: inspect_file(name, folder, lambda _: None), lambda: read_sources(make_objective({"path": name}), folder)):
        with pytest.raises(DataInvalid) as caught:
            read()
        assert caught.value.error_code in codes
        assert caught.value.hint
    assert growth.bytes < GROWTH


def test_a_list_of_strings_from_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took 3 GB: one list of millions of times the same text, which is written as a dictionary and a length. It would burn all of the
    processor time that it may have."""
    usual = SandboxLimits.for_bytes
    monkeypatch.setattr(SandboxLimits, "for_bytes", staticmethod(lambda size: replace(usual(size), processor=3)))
    size = 20_000_000
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int8)), pa.array(["x" * 60]))
    lists = pa.ListArray.from_arrays(pa.array([0, size, size], pa.int32()), values)
    parquet.write_table(pa.table({"text": lists, "label": ["a", "b"]}), tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 20_000
    both_refuse(tmp_path, "bomb.parquet", "parser_memory", "file_expands", "parser_processor")


def test_a_page_that_expands(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 60_000_000] * 2, "label": ["a"] * 2})
    parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(DataInvalid) as caught:
        read_sources(make_objective({"path": "bomb.parquet"}), tmp_path)
    assert caught.value.error_code == "data_invalid"


def test_a_compressed_file_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(gzip.compress(b"0" * 20_000_000))
    both_refuse(tmp_path, "d.jsonl", "file_binary", "file_encoding", "file_broken")


def test_json_as_deep_as_it_is_long(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("[" * 1_000_000)
    both_refuse(tmp_path, "d.json", "broken_json", "parser_crashed", "file_broken")
    (tmp_path / "d.jsonl").write_text('{"text":' + '{"a":' * 600_000 + "\n" + json.dumps({"text": "a", "label": "b"}) + "\n")
    found = inspect_file("d.jsonl", tmp_path, lambda _: None)
    assert (found.rows, found.unusable) == (1, {"broken_json": 1})
