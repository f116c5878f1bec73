"""JSON: one array of objects.

In: a JSON file. Out: records, each with the line on which its object starts. Must not know: what the keys mean.

The format has to be read whole: an array ends where it is closed. Its elements are still parsed one by one, each like a line of JSONL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from tailorbird.data.reading.data_file import DataFile
from tailorbird.data.reading.jsonl_file import record_of
from tailorbird.data.reading.record import Records
from tailorbird.data.reading.text_file import text_lines
from tailorbird.domain.errors import DataInvalid

_BLANK = re.compile(r"[ \t\r\n]*")

#: Finds where an element ends; numbers stay texts, so that none is too long.
_ELEMENT = json.JSONDecoder(parse_int=str, parse_float=str)


def read_json(file: DataFile, _: Collection[str]) -> Records:
    """The records of a JSON file, as ``parse``."""
    return parse(file.name, "".join(text_lines(file, "\n")))


def parse(name: str, text: str) -> Records:
    """The objects of the array in ``text``; elements that are none are set aside. Raises DataInvalid where the array itself is broken."""
    start = _skip(text, 0)
    if text[start : start + 1] != "[":
        raise _broken(name, _line(text, start), "a JSON file holds one array of objects, and none begins here")
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
    hint = 'write [{"text": ..., "label": ...}, ...], or one object a line in a file that ends in .jsonl'
    return DataInvalid(f"{name}:{line}: {what}", hint, code="broken_json")
