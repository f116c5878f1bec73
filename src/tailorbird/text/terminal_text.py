"""Text that a terminal shows and does not obey: it may be anybody's words, of rows, requests, answers of a model, errors of a server."""

from __future__ import annotations

import re

#: Characters a line where nothing breaks it: in a file, a pipe or a log.
UNBROKEN = 100_000

#: What moves a cursor, clears a screen or writes to a clipboard (the controls of ASCII and Latin-1, but for tabs and ends of lines), and
#: marks that turn the direction of writing.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def shown(text: str) -> str:
    """``text`` with its control characters written out: ``\\x1b``."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shown_json(document: str) -> str:
    """The same of a JSON document, which stays the same: JSON itself writes out those of ASCII alone."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
