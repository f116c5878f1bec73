"""JSON Lines: one object a line.

In: the text of a JSONL file. Out: a table. Must not know: what the keys mean.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from tailorbird.data.table import Record, Table
from tailorbird.data.text_file import TextFile
from tailorbird.domain.dataset import Quarantined


def parse_jsonl(file: TextFile) -> Table:
    """The objects of ``file``; lines that hold none are broken. Blank lines are no records."""
    records: list[Record] = []
    broken: list[Quarantined] = []
    for line, text in enumerate(file.text.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            records.append(Record(line, _object(text)))
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, _NotAnObject) else "the line is not valid JSON"
            broken.append(Quarantined(file=file.name, line=line, code="broken_json", reason=reason))
    columns = dict.fromkeys(key for record in records for key in record.cells)
    return Table(tuple(columns), tuple(records), tuple(broken))


class _NotAnObject(ValueError):
    """JSON, but not one object with distinct keys. Its message holds no text of the line."""


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
    if not isinstance(value, dict):
        raise _NotAnObject("the line is JSON, but not an object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NotAnObject("a key stands in the object twice")
    return value


def _refuse(constant: str) -> NoReturn:
    raise _NotAnObject(f"{constant} is not a JSON value")
