"""TSV, JSON, Parquet, folders and addresses: the same rows whatever they come in, and what is refused or set aside in each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from support.data import make_objective
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import SourceRows, fingerprint_sources, read_sources
from tailorbird.data.readers import csv_file, json_files
from tailorbird.data.readers.data_file import open_file
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.objective import TaskKind

CELLS = [(f"message number {n}, said\nso", "ab"[n % 2]) for n in range(20)]


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


NAMES = ("d.csv", "d.tsv", "d.json", "d.jsonl", "d.parquet", "d")


@pytest.fixture
def memory() -> Iterator[Any]:
    """The storage behind ``memory://``, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def read(folder: Path, path: str, kind: TaskKind = TaskKind.CLASSIFY, **source: str) -> SourceRows:
    return read_sources(make_objective({"path": path, **source}, kind=kind), folder)


def refused(folder: Path, path: str, **source: str) -> DataInvalid:
    with pytest.raises(DataInvalid) as caught:
        read(folder, path, **source)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_come_out_of_every_format(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    found = read(tmp_path, name)
    assert sorted((row.text, row.target) for row in found.rows) == sorted(CELLS)
    assert (found.quarantined, found.read) == ((), {name: 20})
    assert found.files == fingerprint_sources(make_objective({"path": name}), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_come_from_an_address(tmp_path: Path, name: str, memory: Any) -> None:
    fill(tmp_path)
    memory.put(str(tmp_path / name), f"/bucket/{name}", recursive=True)
    here, there = read(tmp_path, name), read(tmp_path, f"memory://bucket/{name}")
    assert [(row.text, row.target, row.provenance.line) for row in there.rows] == [
        (row.text, row.target, row.provenance.line) for row in here.rows
    ]
    assert there.files == {f"memory://bucket/{name}": here.files[name]}
    assert fingerprint_sources(make_objective({"path": f"memory://bucket/{name}"}), tmp_path) == there.files
    assert there.rows[0].provenance.file.startswith(f"memory://bucket/{name}")


@pytest.mark.parametrize(("name", "lines"), [("d.json", [2, 6]), ("d.parquet", [1, 2]), ("d.tsv", [2, 4]), ("d", [1, 1])])
def test_lines_are_those_on_which_rows_start(tmp_path: Path, name: str, lines: list[int]) -> None:
    fill(tmp_path)
    assert [row.provenance.line for row in read(tmp_path, name).rows[:2]] == lines


def test_nothing_but_the_named_columns_of_parquet_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", a=["x"] * 3, b=["y"] * 3, picture=[b"\xff"] * 3)
    assert len(read(tmp_path, "d.parquet", text="a", label="b").rows) == 3
    error = refused(tmp_path, "d.parquet", text="a", label="picturs")
    assert error.hint == "set `label: picture`? the file has: 'a', 'b', 'picture'"
    assert refused(tmp_path, "d.parquet").error_code == "column_missing"


def test_parquet_rows_that_are_no_text_are_quarantined(tmp_path: Path) -> None:
    broken = pa.array([b"fine", b"caf\xe9 secret", b"fine"]).cast(pa.binary()).view(pa.string())
    write_parquet(tmp_path / "d.parquet", text=broken, label=["a", "b", None])
    assert refused(tmp_path, "d.parquet").error_code == "mostly_quarantined"
    write_parquet(tmp_path / "d.parquet", text=pa.concat_arrays([broken, broken.slice(0, 1)]), label=["a", "b", None, "a"])
    entries = read(tmp_path, "d.parquet").quarantined
    assert [(entry.line, entry.code) for entry in entries] == [(2, "broken_text"), (3, "missing_cell")]


@pytest.mark.parametrize("data", [b"PAR1 and then nothing of use", b"text,label\n"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.parquet").write_bytes(data)
    assert refused(tmp_path, "d.parquet").error_code == "file_broken"


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", text=["x"] * 50, label=["a"] * 50)
    (tmp_path / "d.parquet").write_bytes((tmp_path / "d.parquet").read_bytes()[:-40])
    assert refused(tmp_path, "d.parquet").error_code == "file_broken"


def test_a_file_without_bytes_or_rows_is_refused(tmp_path: Path) -> None:
    for name in ("d.parquet", "d.json", "d.tsv"):
        (tmp_path / name).write_bytes(b"")
        assert refused(tmp_path, name).error_code == "file_empty"
    (tmp_path / "d.json").write_text("[]")
    write_parquet(tmp_path / "d.parquet", text=pa.array([], pa.string()), label=pa.array([], pa.string()))
    for name in ("d.parquet", "d.json"):
        assert refused(tmp_path, name).error_code == "file_empty"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"text": "x"}', 1),
        ('\n[{"text": "x", "label": "a"}\n{"text": "x"}]', 3),
        ('[\n{"text": "x", "label": "a"},\n]', 3),
        ('[{"text": "x",\n"label": oops}]', 2),
        ('[{"text": "x", "label": "a"}]\n[]', 2),
        ('[{"text": "x", "label": "a"}', 1),
        ("[\n" + "[" * 100_000, 2),
    ],
)
def test_a_broken_json_array_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "d.json").write_text(text)
    error = refused(tmp_path, "d.json")
    assert (error.error_code, error.message.partition(": ")[0]) == ("broken_json", f"d.json:{line}")


def test_elements_that_are_no_rows_are_quarantined(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(
        '[{"text":"x","label":"a"},\n7,\n{"text":"x","text":"y"},{"text":"z","label":' + "9" * 5000 + "}," + as_json()[1:]
    )
    found = read(tmp_path, "d.json")
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(2, "broken_json"), (3, "broken_json"), (3, "broken_json")]
    assert len(found.rows) == 21


@given(
    st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.integers() | st.none(), max_size=3), max_size=6),
    st.sampled_from([None, 1]),
)
def test_any_json_array_is_taken_apart_as_a_parser_would(rows: list[dict[str, Any]], indent: int | None) -> None:
    text = json.dumps(rows, indent=indent)
    assert [record.cells for record in json_files.parse_json("d.json", text)] == rows


@given(st.text(st.sampled_from('[]{}",:1 \nab'), max_size=40))
def test_any_text_is_an_array_or_refused(text: str) -> None:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    try:
        records = list(json_files.parse_json("d.json", text))
    except DataInvalid:
        assert not isinstance(whole, list)
    else:
        assert isinstance(whole, list)
        assert len(records) == len(whole)


def test_latin_1_is_refused_or_set_aside_but_never_a_crash(tmp_path: Path) -> None:
    for name, content in {"d.tsv": b"text\tlabel\nx\ta\ncaf\xe9\tb\n", "d.json": b'[{"text": "x"},\n{"text":\n"caf\xe9"}]'}.items():
        (tmp_path / name).write_bytes(content)
        error = refused(tmp_path, name)
        assert (error.error_code, error.message) == ("file_encoding", f"{name}:3: not UTF-8")


def test_a_folder_sets_aside_what_is_no_text(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    (tmp_path / "d" / "a" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "d" / "a" / "nul.txt").write_bytes(b"a\0b")
    (tmp_path / "d" / "a" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "d" / "a" / "blank.txt").write_text(" \n")
    (tmp_path / "d" / "no label.txt").write_text("a text without a label")
    (tmp_path / "d" / ".hidden.txt").write_text("not a row")
    (tmp_path / "d" / "b" / "deep").mkdir()
    (tmp_path / "d" / "b" / "deep" / "x.TXT").write_text("\ufeffa deep one")
    found = read(tmp_path, "d")
    assert sorted((entry.file, entry.line, entry.code) for entry in found.quarantined) == [
        ("d/a/blank.txt", 1, "empty_text"),
        ("d/a/latin.txt", 1, "file_encoding"),
        ("d/a/nul.txt", 1, "file_binary"),
        ("d/a/picture.png", 1, "file_kind"),
        ("d/no label.txt", 1, "missing_cell"),
    ]
    assert (len(found.rows), found.read) == (21, {"d": 26})
    deep = next(row for row in found.rows if row.text == "a deep one")
    assert (deep.target, deep.provenance.file) == ("b", "d/b/deep/x.TXT")
    assert deep.provenance.file_digest == digest_bytes("\ufeffa deep one".encode())


def test_the_digest_of_a_folder_covers_names_and_bytes(tmp_path: Path) -> None:
    objective = make_objective({"path": "d"})
    write_folder(tmp_path / "d")
    first = fingerprint_sources(objective, tmp_path)
    (tmp_path / "d" / "a" / "00.txt").rename(tmp_path / "d" / "b" / "00.txt")
    second = fingerprint_sources(objective, tmp_path)
    (tmp_path / "d" / "b" / "00.txt").write_text("other words")
    assert len({*first.values(), *second.values(), *fingerprint_sources(objective, tmp_path).values()}) == 3


def test_a_folder_has_no_answers_no_subjects_and_must_have_texts(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    with pytest.raises(DataInvalid, match="no answers"):
        read(tmp_path, "d", TaskKind.GENERATE)
    assert refused(tmp_path, "d", subject="who").error_code == "column_missing"
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, "empty").error_code == "file_empty"


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    (tmp_path / "secret.txt").write_text("not of this folder")
    (tmp_path / "d" / "a" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert len(read(tmp_path, "d").rows) == 20


def test_a_mostly_unusable_folder_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    for number in range(30):
        (tmp_path / "d" / f"{number}.bin").write_bytes(b"x")
    assert refused(tmp_path, "d").message == "d: 30 of 50 rows cannot be used"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("file:///etc/hostname.csv", "address_protocol"),
        ("http://example.org/d.csv", "address_protocol"),
        ("simplecache::s3://b/d.csv", "address_protocol"),
        ("https://ann:secret@example.org/d.csv", "address_credentials"),
        ("https://example.org/d.csv?token=secret", "address_credentials"),
        ("s3://key:secret@bucket/d.csv", "address_credentials"),
        ("hf://owner/name", "address_form"),
        ("hf://datasets/../name", "address_form"),
        ("hf://datasets/owner/name:split", "address_form"),
        ("hf://datasets/owner/name@a/../b", "address_form"),
        ("memory://bucket/none.csv", "file_missing"),
        ("memory://bucket/none", "file_missing"),
    ],
)
def test_addresses_that_are_not_taken(tmp_path: Path, path: str, code: str, memory: Any) -> None:
    error = refused(tmp_path, path)
    assert error.error_code == code
    assert "secret" not in error.message + error.hint


def test_a_storage_without_its_client_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(Unavailable) as caught:
        read(tmp_path, "az://container/d.csv")
    assert (caught.value.error_code, caught.value.hint) == ("package_missing", "pip install adlfs")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(as_csv())

    def rows_while_growing() -> None:
        with open_file("d.csv", path, ".csv") as file:
            assert next(iter(csv_file.read_csv(file, ())))
            with path.open("a") as out:
                out.write("one more,a\n")

    with pytest.raises(DataInvalid) as caught:
        rows_while_growing()
    assert caught.value.error_code == "file_changed"


def test_a_large_file_is_read_line_by_line(tmp_path: Path) -> None:
    """A hundred times the block that a file is read in: were it read whole, all of it would be drawn before the first record."""
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "some words,a\n" * 100_000)
    with open_file("d.csv", path, ".csv") as file, path.open() as stream:
        drawn: list[str] = []
        records = csv_file.parse(file.name, (drawn.append(line) or line for line in stream), ",")
        next(records)
    assert len(drawn) == 2
