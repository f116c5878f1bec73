"""JSON Lines (one object a line) and JSON (one array of objects)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

from tailorbird.data.readers.cells import SPLIT_NAMES
from tailorbird.data.readers.data_file import DataFile, Record, Records
from tailorbird.data.readers.text_files import text_lines
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid


def read_jsonl(file: DataFile, _: Collection[str]) -> Records:
    """The records of a JSONL file, as ``parse``."""
    return parse_jsonl(file.name, text_lines(file, "\n"))


def parse_jsonl(name: str, lines: Iterable[str]) -> Records:
    """The object on each line; a line that holds none is set aside. Blank lines are no records."""
    return (record_of(name, number, line) for number, line in enumerate(lines, start=1) if line.strip())


#: A line of more characters than this holds no row that a model could read.
LONGEST = 4_000_000


def record_of(name: str, line: int, text: str) -> Record | Quarantined:
    """The record that ``text``, which starts on ``line``, holds."""
    if len(text) > LONGEST:
        return Quarantined(file=name, line=line, code="line_too_long", reason=f"the record has more than {LONGEST:,} characters")
    try:
        return Record(line, _object(text.removeprefix("\ufeff")))  # the mark of a file that was joined to others
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


_NOT_LINE_END = re.compile(r"[^\n]")
_BLANK = re.compile(r"[ \t\r\n]*")

_ARRAY = 'write [{"text": ..., "label": ...}, ...], or one object a line in a file that ends in .jsonl'
#: Finds where an element ends; numbers stay texts, so that none is too long.
_ELEMENT = json.JSONDecoder(parse_int=str, parse_float=str)


def read_json(file: DataFile, _: Collection[str]) -> Records:
    """The records of a JSON file, as ``parse``; of a file that is one object, those of the one list of records in it, where it has one."""
    return parse_json(file.name, _records_alone("".join(text_lines(file, "\n"))))


#: Names by which objects hold records.
_LISTS = ("data", "rows", "records", "items", "examples", "instances", "entries", "samples", "results")


def _records_alone(text: str) -> str:
    """``text`` with blanks around the list of records in it, so that its lines stay where they are."""
    spans, position = list[tuple[int, int]](), _skip(text, 0)
    more = text[position : position + 1] == "{"
    try:
        while more:
            key, end = _ELEMENT.raw_decode(text, _skip(text, position + 1))
            colon = _skip(text, end)
            start = _skip(text, colon + 1)
            value, end = _ELEMENT.raw_decode(text, start)
            if text[colon : colon + 1] != ":" or not isinstance(key, str):
                return text
            if key.casefold() in _LISTS and isinstance(value, list) and value and isinstance(value[0], dict):
                spans.append((start, end))
            position = _skip(text, end)
            more = text[position : position + 1] == ","
    except (ValueError, RecursionError):
        return text
    closed = text[position : position + 1] == "}" and _skip(text, position + 1) == len(text)
    if len(spans) != 1 or not closed:
        return text
    ((start, end),) = spans
    return _NOT_LINE_END.sub(" ", text[:start]) + text[start:end] + _NOT_LINE_END.sub(" ", text[end:])


def parse_json(name: str, text: str) -> Records:
    """The objects of the array in ``text``; elements that are none are set aside. Raises DataInvalid where the array itself is broken."""
    start = _skip(text, 0)
    if text[start : start + 1] != "[":
        message = f"{name}:{_line(text, start)}: a JSON file holds one array of objects, and none begins here"
        raise DataInvalid(message, _how_else(text), code="broken_json")
    counted, line = 0, 1
    following = _skip(text, start + 1)
    closed = text[following : following + 1] == "]"
    while not closed:
        line, counted = line + text.count("\n", counted, following), following
        end = _end_of_element(name, text, following, line)
        yield record_of(name, line, text[following:end])
        mark = _skip(text, end)
        closed = text[mark : mark + 1] == "]"
        if not closed and text[mark : mark + 1] != ",":
            raise _broken(name, _line(text, mark), "a comma or the end of the array is missing here")
        following = mark if closed else _skip(text, mark + 1)
    if _skip(text, following + 1) != len(text):
        raise _broken(name, _line(text, _skip(text, following + 1)), "something follows the array")


def _how_else(text: str) -> str:
    """What to do about JSON that is one object, or an object a line."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return "rename the file so that it ends in .jsonl: it holds an object a line" if error.msg == "Extra data" else _ARRAY
    except (ValueError, RecursionError):
        return _ARRAY
    fields = value if isinstance(value, dict) else {}
    lists = [key for key, inner in fields.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    splits = [key for key in fields if key.casefold() in SPLIT_NAMES]
    if len(lists) > 1 or len(splits) > 1:
        lists = splits if len(splits) > 1 else lists
        return f"write each list into a file of its own ({', '.join(key[:40] for key in lists[:5])}): [{{...}}, ...]"
    if lists:
        return f"write the list under {lists[0][:40]!r} alone: [{{...}}, ...]"
    if len(fields) > 1 and all(isinstance(inner, list | dict) for inner in fields.values()):
        return f"{_ARRAY} (of a data frame: to_json(..., orient='records'))"
    return _ARRAY


def _end_of_element(name: str, text: str, start: int, line: int) -> int:
    try:
        return _ELEMENT.raw_decode(text, start)[1]
    except (ValueError, RecursionError) as error:
        broken_at = error.lineno if isinstance(error, json.JSONDecodeError) else line
        raise _broken(name, broken_at, "not valid JSON") from error


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _broken(name: str, line: int, what: str) -> DataInvalid:
    return DataInvalid(f"{name}:{line}: {what}", _ARRAY, code="broken_json")
