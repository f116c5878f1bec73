"""Standard streams that every process has, whoever started it: a closed one is empty, and any text can be written."""

from __future__ import annotations

import codecs
import io
import os
import sys

_NAME = "tailorbird.escape"


def complete_standard_streams() -> None:
    """Opens those of the three that whoever started this process closed: Python has None in their place, and what is opened next (a
    connection, the record) would get the number to which libraries write their warnings. A letter that the encoding of standard output
    lacks is written as its number, ``\\u2265``, and a byte of a path that is no letter as that byte."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number; children have it, too
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    codecs.register_error(_NAME, _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_NAME)


def writes_all_letters() -> bool:
    """True where standard output takes any text as it is."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return b"".join(_byte_of(letter) or letter.encode("ascii", "backslashreplace") for letter in letters), error.end


def _byte_of(letter: str) -> bytes | None:
    """The byte that Python's ``surrogateescape`` read as this letter; None where it is one."""
    return bytes([ord(letter) - 0xDC00]) if 0xDC80 <= ord(letter) <= 0xDCFF else None
