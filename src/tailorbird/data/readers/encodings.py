"""In which encoding a file of text seems to be written: a guess for people to confirm, never an assumption."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20

#: Byte order marks, the longer ones first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Control characters that no text has; bytes that Windows-1252 does not use.
_CONTROLS = frozenset(range(32)) - {9, 10, 12, 13, 27}
_NOT_CP1252 = frozenset({0x81, 0x8D, 0x8F, 0x90, 0x9D})


def guess_encoding(path: Path) -> str | None:
    """``utf-8``, ``utf-16``, ``utf-32`` (by their mark, or by where zeros stand), ``cp1252`` or ``latin-1``; None for binary content.

    Reads the whole file, a block at a time: a letter that is no UTF-8 may stand at its very end.
    """
    with path.open("rb") as stream:
        start = stream.read(4096)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    return marked or _by_zeros(start) or ("utf-8" if _is_utf8(path) else _single_byte(path))


def _by_zeros(start: bytes) -> str | None:
    """UTF-16 without a mark: of most letters of Western languages every second byte is zero."""
    odd, even = start[1::2], start[::2]
    if len(odd) > 1 and odd.count(0) > 0.6 * len(odd) and not even.count(0):
        return "utf-16-le"
    if len(even) > 1 and even.count(0) > 0.6 * len(even) and not odd.count(0):
        return "utf-16-be"
    return None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(path):
            if 0 in block:
                return False
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _single_byte(path: Path) -> str | None:
    used: set[int] = set()
    for block in _blocks(path):
        used.update(block)
    if used & _CONTROLS:
        return None
    return "latin-1" if used & _NOT_CP1252 else "cp1252"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block
