"""Markdown of model cards and explanations as HTML that can neither run nor fetch anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from html import unescape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

#: Characters of a document that are made into HTML; a longer one is shown as it is: a megabyte would take ten seconds, in which hardly
#: anybody else is answered.
LONGEST = 1 << 16
#: ``# h`` becomes ``<h3>``: above stand the page's own title and the section's.
_DEEPER = 2
#: The documents hold text that users wrote and no link of ours: what looks like a link or an image stays text, so that no scheme needs
#: to be judged and no address is called.
_LEFT_OUT = ["autolink", "image", "link", "reference", "html_block", "html_inline"]
_TABLE = '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>'


def markdown_html(text: str) -> Markup:
    """``text`` as HTML. Front matter is shown as code, and so is a very long document, or one of which Markdown would leave out letters
    (cells that no column has, items too deep): who approves a release reads all that was written."""
    if len(text) > LONGEST:
        return _code(text)
    front, body = _front_matter(text)
    made = Markup(_parser().render(body))
    shown = made if _letters(made.striptags()) == _letters(unescape(body)) else _code(body)
    return (_code(front) + "\n" if front else Markup("")) + shown


def _letters(text: str) -> Counter[str]:
    return Counter(letter for letter in text if letter.isalpha())


def _front_matter(text: str) -> tuple[str, str]:
    """The YAML between two lines ``---`` at the very start, and what follows."""
    if not text.startswith("---\n"):
        return "", text
    front, fence, body = text.removeprefix("---\n").partition("\n---\n")
    return (front, body) if fence else ("", text)


@cache
def _parser() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "xhtmlOut": False}).enable("table").disable(_LEFT_OUT)
    made.core.ruler.push("page", _fit_page)
    made.add_render_rule("table_open", lambda *_: _TABLE)
    made.add_render_rule("table_close", lambda *_: "</table></div>\n")
    made.add_render_rule("code_block", _code_rule)
    made.add_render_rule("fence", _code_rule)
    return made


def _code_rule(_renderer: RendererHTML, tokens: Sequence[Token], place: int, _options: Any, _env: Any) -> str:
    token = tokens[place]
    return _code("\n".join(part for part in (token.info, token.content.rstrip("\n")) if part)) + "\n"


def _code(text: str) -> Markup:
    return Markup('<pre tabindex="0">{}</pre>').format(escape(text))


def _fit_page(state: StateCore) -> None:
    """Headings below those of the page; heads of tables with their scope. A table whose head is empty names its rows by their first cell
    instead."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _DEEPER)}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
    for start in reversed([place for place, token in enumerate(state.tokens) if token.type == "thead_open"]):
        end = next(place for place in range(start, len(state.tokens)) if state.tokens[place].type == "thead_close")
        if not any(token.content.strip() for token in state.tokens[start:end]):
            _name_rows(state.tokens[end:])
            del state.tokens[start : end + 1]


def _name_rows(tokens: Sequence[Token]) -> None:
    """The first cell of each row of the table that begins here becomes its head."""
    is_first = False
    for token in tokens:
        if token.type == "table_close":
            return
        if token.type == "tr_open":
            is_first = True
        elif is_first and token.type in ("td_open", "td_close"):
            token.tag = "th"
            if token.type == "td_open":
                token.attrSet("scope", "row")
            else:
                is_first = False
