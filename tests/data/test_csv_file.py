"""CSV and TSV files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data import make_objective
from tailorbird.data import SourceRows, read_sources
from tailorbird.data.readers import formats
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


def test_records_over_several_lines_keep_the_line_they_start_on(tmp_path: Path) -> None:
    text = 'text,label\r\n"one\r\ntwo",a\r\n\r\n"say ""hi"", you",b\r\nlast,a'
    rows = read(tmp_path, text).rows
    assert [(row.provenance.line, row.text) for row in rows] == [(2, "one\r\ntwo"), (5, 'say "hi", you'), (6, "last")]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (GOOD + '"never closed,a\nnext,b\n', 22),
        (GOOD + '"never closed,a\n"quoted, again",b\nnext,b\n', 22),
        (GOOD + '"closed" too early,a\n', 22),
        (GOOD + 'one,"two\nlines",x\n', None),
        (GOOD + '"fine\nover lines","opens here,a\nnext,b\n', 23),
        (GOOD + '"swallows,a\n' + GOOD.partition("\n")[2] + 'until an inch 5",b\n', 22),
    ],
)
def test_a_broken_quote_is_refused_where_it_opened(tmp_path: Path, content: str, line: int | None) -> None:
    if line is None:
        assert read(tmp_path, content).quarantined[0].code == "wrong_cell_count"
        return
    error = refused(tmp_path, content)
    assert error.error_code == "file_broken"
    assert error.message.startswith(f"d.csv:{line}: a quote opens here")


def test_a_long_text_in_quotes_is_no_broken_quote(tmp_path: Path) -> None:
    letter = "Dear team,\n" + "I write again, and again, about this.\n" * 8 + "No commas here.\n" * 8
    assert read(tmp_path, GOOD + f'"{letter}",a\n').rows[-1].text == letter


def test_a_header_that_stands_there_again_is_no_row(tmp_path: Path) -> None:
    """Files that were joined, each with its header and its mark: each header had become a row with the label ``label``."""
    found = read(tmp_path, f"\ufeff{GOOD}\ufeff{GOOD.replace('message', 'letter')}{GOOD.replace('message', 'call')}")
    assert len(found.rows) == 60
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(22, "header_again"), (43, "header_again")]


def test_what_spreadsheets_add_is_no_row(tmp_path: Path) -> None:
    """A first line that says the separator, lines of nothing but separators. A cell too many may be that of a comma in a text."""
    text = "sep=;\r\ntext;label\r\nit is late;a\r\n;;\r\n ;\r\nit is lost;b\r\n;b\r\nHello; it is lost;\r\n"
    found = read(tmp_path, text, separator=";")
    assert [(row.text, row.target, row.provenance.line) for row in found.rows] == [("it is late", "a", 3), ("it is lost", "b", 6)]
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(7, "empty_text"), (8, "wrong_cell_count")]


def lines_of(text: str, ends: str = "") -> list[str]:
    return io.StringIO(text, newline=ends).readlines()


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
