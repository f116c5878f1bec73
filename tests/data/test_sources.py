"""Files into rows: what is read, what is quarantined with which line and reason, and which files are refused as a whole."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data import make_objective
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import SourceRows, fingerprint_sources, read_sources
from tailorbird.data.pseudonyms import pseudonym
from tailorbird.data.readers import formats
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind

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


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    assert len(read(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()).rows) == 20


def test_other_columns_a_fixed_split_and_subjects(tmp_path: Path) -> None:
    text = "who,intent,words\nann,a,hello there\n,b,good bye\n"
    rows = read(tmp_path, text, text="words", label="intent", subject="who", split="test").rows
    assert [(row.text, row.target, row.subject, row.fixed) for row in rows] == [
        ("hello there", "a", pseudonym(b"", "acme", "Ann"), Split.TEST),
        ("good bye", "b", None, Split.TEST),
    ]


def test_an_absolute_path_may_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "far.csv").write_text(GOOD)
    assert len(read_sources(make_objective({"path": str(tmp_path / "far.csv")}), tmp_path / "elsewhere").rows) == 20


def test_jsonl_rows(tmp_path: Path) -> None:
    lines = [{"text": "hello", "label": " a ", "who": 7}, {"text": "line\nbreak", "label": "b", "who": None}]
    rows = read(tmp_path, "\n".join(map(json.dumps, lines)) + "\n", "d.jsonl", subject="who").rows
    assert [(row.text, row.target, row.subject, row.provenance.line) for row in rows] == [
        ("hello", "a", pseudonym(b"", "acme", "7"), 1),
        ("line\nbreak", "b", None, 2),
    ]


def test_answers_keep_their_white_space(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "q", "label": "  answer\\n"}\n')
    assert read_sources(make_objective({"path": "d.jsonl"}, kind=TaskKind.GENERATE), tmp_path).rows[0].target == "  answer\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("  ,a", "empty_text"),
        ("secret words,", "empty_label"),
        ("secret words", "wrong_cell_count"),
        ("secret words,a,b", "wrong_cell_count"),
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
        ('{"text": "secret", "label": NaN}', "broken_json"),
        ("[" * 100_000, "broken_json"),
        ('{"text": "secret", "label": ' + "9" * 5000 + "}", "broken_json"),
        ('{"text": "secret"}', "missing_cell"),
        ('{"text": null, "label": "a"}', "missing_cell"),
        ('{"text": "secret", "label": 1.5}', "wrong_type"),
        ('{"text": ["secret"], "label": "a"}', "wrong_type"),
        ('{"text": "secret", "label": "a", "who": 1.5}', "wrong_type"),
        ('{"text": " ", "label": "a"}', "empty_text"),
        ('{"text": "secret", "label": " "}', "empty_label"),
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


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ('{"item": "secret"}', "is not a text: write it as one"),
        ('["secret", "the secret"]', "is not a text: write it as one"),
        ("true", "is not a text"),
    ],
)
def test_an_answer_that_is_no_text_is_told_with_what_to_write(tmp_path: Path, cell: str, reason: str) -> None:
    good = '{"text": "hello", "label": "a"}\n'
    (tmp_path / "d.jsonl").write_text(f'{good}{{"text": "hi", "label": {cell}}}\n{good}')
    (entry,) = read_sources(make_objective({"path": "d.jsonl"}, kind=TaskKind.GENERATE), tmp_path).quarantined
    assert entry.code == "wrong_type"
    assert reason in entry.reason
    assert "secret" not in entry.reason


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert refused(tmp_path, content, name).error_code == "data_invalid"


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "text,label\n").error_code == "data_invalid"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("none.csv", "folder.csv"):
        with pytest.raises(DataInvalid) as caught:
            read_sources(make_objective({"path": name}), tmp_path)
        assert caught.value.message.startswith(name)


@pytest.mark.parametrize(
    ("name", "code"),
    [("d.xlsx", "file_kind"), ("data", "file_kind"), ("none", "file_missing"), ("https://b/d.xlsx", "file_kind")],
)
def test_other_kinds_of_file_are_refused(tmp_path: Path, name: str, code: str) -> None:
    for there in ("d.xlsx", "data"):
        (tmp_path / there).write_text(GOOD)
    with pytest.raises(DataInvalid) as caught:
        read_sources(make_objective({"path": name}), tmp_path)
    assert caught.value.error_code == code


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    latin = refused(tmp_path, b"text,label\nfine,a\ncaf\xe9,b\n")
    assert (latin.message, latin.error_code) == ("d.csv:3: not UTF-8", "file_encoding")
    binary = refused(tmp_path, b"text,label\nfine\0,a\n")
    assert (binary.message, binary.error_code) == ("d.csv:2: binary content, not text", "file_binary")
    assert "`encoding`" in refused(tmp_path, GOOD.encode("utf-16")).hint


def test_a_missing_column_names_the_nearest_and_those_that_are_there(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("label", "labels"))
    assert error.message == "d.csv: there is no column 'label', which the objective names as `label`"
    assert error.hint == "set `label: labels`? the file has: 'text', 'labels'"
    assert "no column 'who'" in refused(tmp_path, GOOD, subject="who").message
    assert "no column 'label'" in refused(tmp_path, '{"text": "x", "intent": "a"}\n', "d.jsonl").message
    assert "`separator`" in refused(tmp_path, GOOD.replace(",", ";")).hint


def test_a_first_row_in_the_place_of_the_header_is_not_told(tmp_path: Path) -> None:
    error = refused(tmp_path, "I am ill and want my money back from you now please,refund\nx,a\n")
    assert "ill" not in error.message + error.hint


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "text,label,text\na,b,c\n").error_code == "file_broken"


def test_a_file_of_mostly_unusable_rows_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "text,label\nfine,a\n,b\n,b\nx,\n")
    assert error.error_code == "data_invalid"
    assert error.message == "d.csv: 3 of 4 rows cannot be used"
    assert "2 times, first on line 3" in error.hint


def test_fingerprints_are_digests_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(GOOD)
    assert fingerprint_sources(make_objective({"path": "d.csv"}), tmp_path) == {"d.csv": digest_bytes(GOOD.encode())}
    with pytest.raises(DataInvalid):
        fingerprint_sources(make_objective({"path": "d.csv"}, {"path": "none.csv"}), tmp_path)


def lines_of(text: str, ends: str = "") -> list[str]:
    return io.StringIO(text, newline=ends).readlines()


@given(st.text(st.sampled_from('{}[]":,a1\n\\u \t'), max_size=60))
def test_each_line_of_any_jsonl_is_a_record_or_broken(text: str) -> None:
    records = list(formats.parse_jsonl("d.jsonl", lines_of(text, "\n")))
    assert [record.line for record in records] == [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    assert all(record.code == "broken_json" for record in records if isinstance(record, Quarantined))
