"""Relevance judgements (qrels): which documents are relevant to which query, and how much.

A line is ``query document grade`` or, as TREC writes it, ``query iteration document grade``, with tabs, commas or blanks between; a first
line whose grade is no number is a header. Grades of zero and less say that a document is not relevant, and are left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tailorbird.data.readers.cells import UnusableRecord
from tailorbird.data.readers.data_file import DataFile, Record
from tailorbird.data.readers.text_files import text_lines
from tailorbird.domain.dataset import Quarantined

#: Grades by document.
Grades = dict[str, int]


def target_of(grades: Mapping[str, int]) -> str:
    """Grades as the target of a row: compact JSON with sorted keys."""
    return json.dumps(dict(sorted(grades.items())), separators=(",", ":"), ensure_ascii=False)


def without_documents(target: str, gone: Collection[str]) -> str:
    """The ``target`` of a query without the documents that are ``gone``; empty where nothing is left to be found."""
    grades: Grades = json.loads(target)
    left = {name: grade for name, grade in grades.items() if name not in gone}
    return target_of(left) if left else ""


def read_qrels(
    file: DataFile, lines: Iterable[tuple[int, list[str]]], known: Iterable[str]
) -> tuple[dict[str, Grades], list[Quarantined], int]:
    """Of the ``lines`` of ``file``: grades by query, lines that say nothing or name a document that is not among the ``known``, and
    how many lines there are."""
    documents = frozenset(known)
    judged: dict[str, Grades] = {}
    unusable: list[Quarantined] = []
    count = 0
    for line, cells in lines:
        count += 1
        try:
            query, document, grade = _judgement(cells)
            if document not in documents:
                raise UnusableRecord("unknown_document", "it names a document that is not there")
        except UnusableRecord as problem:
            unusable.append(Quarantined(file=file.name, line=line, code=problem.code, reason=problem.reason))
            continue
        if grade > 0:
            judged.setdefault(query, {})[document] = grade
    return judged, unusable, count


def grades_cell(record: Record, column: str, known: frozenset[str]) -> tuple[Grades, int]:
    """The relevant documents in a cell that are among the ``known``, and how many others it names: {document: grade}, a list of documents,
    or a text with | between them. Raises UnusableRecord."""
    value = record.cells.get(column)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = _parsed(value, column)
    if isinstance(value, str):
        value = [name.strip() for name in value.split("|") if name.strip()]
    grades = _graded(value, column)
    if not grades:
        raise UnusableRecord("no_judgement", f"no document is relevant (column {column!r})")
    if not grades.keys() & known:
        raise UnusableRecord("unknown_document", f"none of the relevant documents (column {column!r}) is there")
    there = {name: grade for name, grade in grades.items() if name in known}
    return there, len(grades) - len(there)


def _parsed(value: str, column: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UnusableRecord("wrong_type", f"the relevant documents (column {column!r}) begin like JSON, but are none") from error


def _graded(value: Any, column: str) -> Grades:
    if isinstance(value, list) and all(isinstance(name, str | int) and not isinstance(name, bool) for name in value):
        return {str(name): 1 for name in value}
    if isinstance(value, dict) and all(isinstance(grade, int) and not isinstance(grade, bool) for grade in value.values()):
        return {str(name): grade for name, grade in value.items() if grade > 0}
    raise UnusableRecord("wrong_type", f"the relevant documents (column {column!r}) are neither a list nor grades by document")


def judgement_lines(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every judgement, parsed in this process; the header, where there is one, is left out."""
    separator: str | None = None
    for number, line in enumerate(text_lines(file, "\n"), start=1):
        if not line.strip():
            continue
        if number == 1:
            separator = next((mark for mark in "\t," if mark in line), None)
        cells = next(csv.reader([line.rstrip("\r\n")], delimiter=separator)) if separator else line.split()
        if number > 1 or _is_number(cells[-1]):
            yield number, [cell.strip() for cell in cells]


def _judgement(cells: list[str]) -> tuple[str, str, int]:
    if len(cells) not in (3, 4) or not all((cells[0], cells[-2])) or not _is_number(cells[-1]):
        raise UnusableRecord("broken_judgement", "a judgement is: query, document, grade")
    return cells[0], cells[-2], int(float(cells[-1]))


def _is_number(cell: str) -> bool:
    try:
        return float(cell) == int(float(cell))
    except (ValueError, OverflowError):
        return False
