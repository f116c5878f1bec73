"""Files into rows: what is read, what is quarantined with which line and reason, and which files are refused as a whole."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data import make_objective
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import SourceRows, read_sources
from tailorbird.data.pseudonyms import pseudonym
from tailorbird.data.readers import formats
from tailorbird.data.readers.data_file import open_file
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.errors import DataInvalid

GOOD = "text,label\n" + "".join(f"message number {n},{'ab'[n % 2]}\n" for n in range(20))


def read(folder: Path, content: str | bytes, name: str = "d.csv", **source: str) -> SourceRows:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sources(make_objective({"path": name, **source}), folder)


def refused(folder: Path, content: str | bytes, name: str = "d.csv", **source: str) -> DataInvalid:
    with pytest.raises(DataInvalid) as caught:
        read(folder, content, name, **source)
    assert caught.value.hint
    return caught.value


def test_csv_rows_carry_provenance(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    row = found.rows[3]
    assert (len(found.rows), found.read, found.quarantined) == (20, {"d.csv": 20}, ())
    assert (row.text, row.target, row.subject, row.fixed) == ("message number 3", "b", None, None)
    assert (row.provenance.file, row.provenance.line, row.provenance.license) == ("d.csv", 5, "Apache-2.0")
    assert (row.provenance.file_digest, found.files) == (None, {"d.csv": digest_bytes(GOOD.encode())})


def test_other_columns_a_fixed_split_and_subjects(tmp_path: Path) -> None:
    text = "who,intent,words\nann,a,hello there\n,b,good bye\n"
    rows = read(tmp_path, text, text="words", label="intent", subject="who", split="test").rows
    assert [(row.text, row.target, row.subject, row.fixed) for row in rows] == [
        ("hello there", "a", pseudonym(b"", "acme", "Ann"), Split.TEST),
        ("good bye", "b", None, Split.TEST),
    ]


def test_jsonl_rows(tmp_path: Path) -> None:
    lines = [{"text": "hello", "label": " a ", "who": 7}, {"text": "line\nbreak", "label": "b", "who": None}]
    rows = read(tmp_path, "\n".join(map(json.dumps, lines)) + "\n", "d.jsonl", subject="who").rows
    assert [(row.text, row.target, row.subject, row.provenance.line) for row in rows] == [
        ("hello", "a", pseudonym(b"", "acme", "7"), 1),
        ("line\nbreak", "b", None, 2),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("  ,a", "empty_text"),
        ("secret words", "wrong_cell_count"),
    ],
)
def test_failing_csv_rows_are_quarantined(tmp_path: Path, line: str, code: str) -> None:
    found = read(tmp_path, GOOD + line + "\nafter,a\n")
    (entry,) = found.quarantined
    assert (entry.file, entry.line, entry.code) == ("d.csv", 22, code)
    assert "secret" not in entry.reason
    assert (len(found.rows), found.rows[-1].provenance.line, found.read) == (21, 23, {"d.csv": 22})


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"text": "secret", "label": ', "broken_json"),
        ('["secret", "a"]', "broken_json"),
        ('{"text": "secret", "text": "x", "label": "a"}', "broken_json"),
        ("[" * 100_000, "broken_json"),
        ('{"text": "secret"}', "missing_cell"),
        ('{"text": "secret", "label": 1.5}', "wrong_type"),
        ('{"text": "secret \\ud800", "label": "a"}', "broken_text"),
    ],
)
def test_failing_json_lines_are_quarantined(tmp_path: Path, line: str, code: str) -> None:
    good = '{"text": "hello", "label": "a", "who": "ann"}\n'
    found = read(tmp_path, good + "\n" + line + "\n" + good, "d.jsonl", subject="who")
    (entry,) = found.quarantined
    assert (entry.line, entry.code) == (3, code)
    assert "secret" not in entry.reason
    assert [row.provenance.line for row in found.rows] == [1, 4]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    for name, content in (("d.csv", b""), ("d.jsonl", b""), ("d.csv", b"\xef\xbb\xbf\n"), ("d.csv", b"text,label\n")):
        assert refused(tmp_path, content, name).error_code == "data_invalid"


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    assert refused(tmp_path, GOOD, encoding="utf-9").error_code == "file_encoding"
    latin = refused(tmp_path, b"text,label\nfine,a\ncaf\xe9,b\n")
    assert (latin.message.partition(": ")[0], latin.error_code) == ("d.csv:3", "file_encoding")
    binary = refused(tmp_path, b"text,label\nfine\0,a\n")
    assert (binary.message.partition(": ")[0], binary.error_code) == ("d.csv:2", "file_binary")


def test_a_missing_column_names_the_nearest_and_those_that_are_there(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("label", "labels"))
    assert (error.error_code, "'text', 'labels'" in error.hint) == ("column_missing", True)
    for content, name in ((GOOD.replace(",", ";"), "d.csv"), ('{"text": "x", "intent": "a"}\n', "d.jsonl")):
        assert refused(tmp_path, content, name).error_code == "column_missing"


def test_a_first_row_in_the_place_of_the_header_is_not_told(tmp_path: Path) -> None:
    error = refused(tmp_path, "I am ill and want my money back from you now please,refund\nx,a\n")
    assert "ill" not in error.message + error.hint


def test_a_file_of_mostly_unusable_rows_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "text,label\nfine,a\n,b\n,b\nx,\n")
    assert error.error_code == "data_invalid"


def lines_of(text: str, ends: str = "") -> list[str]:
    return io.StringIO(text, newline=ends).readlines()


@given(st.text(st.sampled_from('{}[]":,a1\n\\u \t'), max_size=60))
def test_each_line_of_any_jsonl_is_a_record_or_broken(text: str) -> None:
    records = list(formats.parse_jsonl("d.jsonl", lines_of(text, "\n")))
    assert [record.line for record in records] == [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    assert all(record.code == "broken_json" for record in records if isinstance(record, Quarantined))


def test_records_over_several_lines_keep_the_line_they_start_on(tmp_path: Path) -> None:
    text = 'text,label\r\n"one\r\ntwo",a\r\n\r\n"say ""hi"", you",b\r\nlast,a'
    rows = read(tmp_path, text).rows
    assert [(row.provenance.line, row.text) for row in rows] == [(2, "one\r\ntwo"), (5, 'say "hi", you'), (6, "last")]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (GOOD + '"never closed,a\nnext,b\n', 22),
        (GOOD + '"fine\nover lines","opens here,a\nnext,b\n', 23),
    ],
)
def test_a_broken_quote_is_refused_where_it_opened(tmp_path: Path, content: str, line: int) -> None:
    error = refused(tmp_path, content)
    assert error.error_code == "file_broken"
    assert error.message.startswith(f"d.csv:{line}:")


def test_a_header_that_stands_there_again_is_no_row(tmp_path: Path) -> None:
    """Files that were joined, each with its header and its mark: each header had become a row with the label ``label``."""
    found = read(tmp_path, f"\ufeff{GOOD}\ufeff{GOOD.replace('message', 'letter')}{GOOD.replace('message', 'call')}")
    assert len(found.rows) == 60
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(22, "header_again"), (43, "header_again")]


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(",\t"))
def test_what_a_csv_writer_writes_is_read_back_with_its_lines(rows: list[tuple[str, str]], end: str, separator: str) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    starts = []
    writer.writerow(["text", "label"])
    for row in rows:
        starts.append(len(lines_of(written.getvalue())) + 1)
        writer.writerow(row)
    records = formats.parse("d.csv", lines_of(written.getvalue()), separator)
    assert [(record.line, record.cells["text"], record.cells["label"]) for record in records] == [
        (start, *row) for start, row in zip(starts, rows, strict=True)
    ]


@given(st.text(st.sampled_from('ab,"\n\r '), max_size=40))
def test_any_csv_is_parsed_or_refused_with_a_line_in_it(text: str) -> None:
    problem = csv_problem("x,y\n" + text)
    if problem is not None:
        line = int(problem.message.split(":")[1])
        assert 2 <= line <= len(lines_of("x,y\n" + text))
        assert problem.error_code == "file_broken"


def csv_problem(text: str) -> DataInvalid | None:
    try:
        list(formats.parse("d.csv", lines_of(text), ","))
    except DataInvalid as error:
        return error
    return None


def test_a_line_that_never_ends_is_refused_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.data.readers.data_file.LONGEST_LINE", 10_000)
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "' + b"x" * 100_000)
    with open_file("d.jsonl", tmp_path / "d.jsonl", ".jsonl") as file, pytest.raises(DataInvalid) as caught:
        list(formats.read_jsonl(file, ()))
    assert caught.value.error_code == "line_too_long"
