"""JSON Lines: one object a line.

In: the lines of a JSONL file. Out: records. Must not know: what the keys mean.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

from tailorbird.data.reading.data_file import DataFile
from tailorbird.data.reading.record import Record, Records
from tailorbird.data.reading.text_file import text_lines
from tailorbird.domain.dataset import Quarantined


def read_jsonl(file: DataFile, _: Collection[str]) -> Records:
    """The records of a JSONL file, as ``parse``."""
    return parse(file.name, text_lines(file, "\n"))


def parse(name: str, lines: Iterable[str]) -> Records:
    """The object on each line; a line that holds none is set aside. Blank lines are no records."""
    return (record_of(name, number, line) for number, line in enumerate(lines, start=1) if line.strip())


#: A line of more characters than this holds no row that a model could read.
LONGEST = 4_000_000


def record_of(name: str, line: int, text: str) -> Record | Quarantined:
    """The record that ``text``, which starts on ``line``, holds."""
    if len(text) > LONGEST:
        return Quarantined(file=name, line=line, code="line_too_long", reason=f"the record has more than {LONGEST:,} characters")
    try:
        return Record(line, _object(text))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _NotAnObject) else "the line is not valid JSON"
        return Quarantined(file=name, line=line, code="broken_json", reason=reason)


class _NotAnObject(ValueError):
    """JSON, but not one object with distinct keys. Its message holds no text of the line."""


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
    if not isinstance(value, dict):
        raise _NotAnObject("there is JSON, but no object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NotAnObject("a key stands in the object twice")
    return value


def _refuse(constant: str) -> NoReturn:
    raise _NotAnObject(f"{constant} is not a JSON value")
