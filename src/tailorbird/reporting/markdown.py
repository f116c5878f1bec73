"""Free text as Markdown that shows it as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: What Markdown reads as marks anywhere: of emphasis, code and cells; an underscore within a word is none.
_MARKS = re.compile(r"[\\`*~|]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
#: And at the beginning of a line: marks of a heading, an item, a quotation or a rule; a number with its point.
_LEADING = re.compile(r"[#>+=-]|\d{1,9}(?=[.)](?:\s|$))")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def markdown_cell(text: str) -> str:
    """``text`` on one line, in which nothing opens a tag, another cell, emphasis, code or a link."""
    line = _ENTITY.sub("&amp;", " ".join(text.split()))
    return _MARKS.sub(r"\\\g<0>", line).replace("<", "&lt;")


def markdown_text(text: str) -> str:
    """The same where a line or an item begins with it: it opens no heading, item, quotation or rule, either."""
    marked = markdown_cell(text)
    head = _LEADING.match(marked)
    if head is None:
        return marked
    return f"{head[0]}\\{marked[head.end() :]}" if head[0].isdigit() else f"\\{marked}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; each cell stands on one line."""
    first, *others = ["| " + " | ".join(map(markdown_cell, line)) + " |" for line in (head, *rows)]
    return "\n".join([first, "| " + " | ".join(["---"] * len(head)) + " |", *others])
