"""Markdown as our own rooms write it, as HTML in which nothing can act."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from itertools import groupby

from markupsafe import Markup, escape

#: ``# h`` becomes ``<h3>``: above stand the page's own title and the section's.
_DEEPER = 2
_HEADING = re.compile(r"(#{1,4}) +(.+)")
_CELL_END = re.compile(r"(?<!\\)\|")
#: Two classes that share no character at the seam, so that nothing is tried twice.
_RULE = re.compile(r"[|: ]*-[|: -]*")
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def markdown_html(text: str) -> Markup:
    """``text`` as HTML. Front matter and indented lines are shown as code."""
    front, body = _front_matter(text)
    blocks = [_code(front)] if front else []
    blocks += [block for paragraph in re.split(r"\n[ \t]*\n", body) if paragraph.strip() for block in _blocks(paragraph)]
    return Markup("\n").join(blocks)


def _front_matter(text: str) -> tuple[str, str]:
    """The YAML between two lines ``---`` at the very start, and what follows."""
    if not text.startswith("---\n"):
        return "", text
    front, fence, body = text.removeprefix("---\n").partition("\n---\n")
    return (front, body) if fence else ("", text)


def _blocks(paragraph: str) -> Iterator[Markup]:
    """One block for each run of lines of one kind."""
    for render, lines in groupby(paragraph.strip("\n").split("\n"), _kind):
        yield render(list(lines))


def _kind(line: str) -> Callable[[list[str]], Markup]:
    if _HEADING.fullmatch(line):
        return _headings
    if line.startswith("|"):
        return _table
    if line.startswith("- "):
        return _list
    return _indented if line.startswith("    ") else _paragraph


def _headings(lines: list[str]) -> Markup:
    found = [match for line in lines if (match := _HEADING.fullmatch(line))]
    return Markup("\n").join(Markup("<h{0}>{1}</h{0}>").format(len(match[1]) + _DEEPER, _inline(match[2])) for match in found)


def _paragraph(lines: list[str]) -> Markup:
    return Markup("<p>{}</p>").format(_inline(" ".join(lines)))


def _list(lines: list[str]) -> Markup:
    items = Markup("").join(Markup("<li>{}</li>").format(_inline(line[2:])) for line in lines)
    return Markup("<ul>{}</ul>").format(items)


def _indented(lines: list[str]) -> Markup:
    return _code("\n".join(line[4:] for line in lines))


def _code(text: str) -> Markup:
    return Markup('<pre tabindex="0">{}</pre>').format(text)


def _table(lines: list[str]) -> Markup:
    """A table; one without a head, or whose head is empty, names its rows by their first cell instead."""
    ruled = len(lines) > 1 and _RULE.fullmatch(lines[1])
    head = _cells(lines[0]) if ruled else []
    rows = [_cells(line) for line in (lines[2:] if ruled else lines)]
    body = Markup("").join(_row(row, named=not any(head)) for row in rows)
    top = Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(map(_head, head))) if any(head) else ""
    return Markup('<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>{}<tbody>{}</tbody></table></div>').format(
        top, body
    )


def _cells(line: str) -> list[str]:
    """What stands between the bars; the last bar may be missing."""
    first, *cells = [cell.strip().replace("\\|", "|") for cell in _CELL_END.split(line.strip())]
    return (cells if not cells or cells[-1] else cells[:-1]) or [first]


def _head(cell: str) -> Markup:
    return Markup('<th scope="col">{}</th>').format(_inline(cell))


def _row(cells: list[str], *, named: bool) -> Markup:
    first = Markup('<th scope="row">{}</th>') if named else Markup("<td>{}</td>")
    shapes = [first, *[Markup("<td>{}</td>")] * (len(cells) - 1)]
    return Markup("<tr>{}</tr>").format(Markup("").join(shape.format(_inline(cell)) for shape, cell in zip(shapes, cells, strict=True)))


def _inline(text: str) -> Markup:
    """Code and bold; entities are read first, so that what was escaped for Markdown is not escaped twice."""
    pieces, last = [], 0
    for match in _INLINE.finditer(text):
        pieces += [_plain(text[last : match.start()]), _marked(match)]
        last = match.end()
    return Markup("").join([*pieces, _plain(text[last:])])


def _marked(match: re.Match[str]) -> Markup:
    return Markup("<code>{}</code>").format(_plain(match[1])) if match[1] else Markup("<strong>{}</strong>").format(_plain(match[2]))


def _plain(text: str) -> Markup:
    return escape(html.unescape(text))
