"""Templates to answers, with the headers that keep a page to itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import unescape
from importlib import resources
from typing import Any, ParamSpec, TypeVar

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

from tailorbird.auth import ROLES_FOR, Action
from tailorbird.console.forms import Fields, value_of
from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Value
from tailorbird.reporting import template_environment
from tailorbird.stats.metric_direction import lower_is_better
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.registry import UseCase, perform, perform_request
from tailorbird.usecases.sessions import LoginEntry

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


#: Everything comes from here or not at all; nothing inline; no page of ours inside another's.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def page(template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """``template`` filled with ``values``."""
    return HTMLResponse(_environment().get_template(template).render(values), status)


def sealed(response: Response) -> Response:
    """The response with our headers; nothing of it is stored unless it says so itself."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("cache-control", "no-store")
    return response


def static_file(name: str) -> Response:
    """A file of ours. Its address changes with its content, so it may be kept. Raises NotFound."""
    found = _static().get(name)
    if found is None:
        raise NotFound("there is no such file", "reload the page that asked for it", code="page_missing")
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(found, media_type=_MEDIA[name.rpartition(".")[2]], headers=kept)


@cache
def _static() -> dict[str, bytes]:
    own = (resources.files("tailorbird.console") / "static").iterdir()
    files = [*own, resources.files("tailorbird.reporting") / "templates" / "ladder.css"]
    return {file.name: file.read_bytes() for file in files if file.name.rpartition(".")[2] in _MEDIA}


def _static_address(name: str) -> str:
    return f"/console/static/{name}?v={hashlib.sha256(_static()[name]).hexdigest()[:8]}"


@cache
def _environment() -> Environment:
    made = template_environment("tailorbird.console")
    made.globals["static"] = _static_address
    made.filters.update(markdown=markdown_html, bound=lambda metric: "≤" if lower_is_better(metric) else "≥")
    return made


P = ParamSpec("P")
A = TypeVar("A", bound=Value)


@dataclass(frozen=True)
class AnonymousContext:
    """A call by somebody who has not shown who they are. ``form`` is what was posted, empty for GET."""

    entrance: LoginEntry
    request: Request
    form: Fields

    @property
    def deps(self) -> Dependencies:
        """The opened ports."""
        return self.entrance.deps

    @property
    def query(self) -> Fields:
        """The fields of the address."""
        return self.request.query_params

    def named(self, name: str) -> str:
        """A piece of the address that the route names."""
        return str(self.request.path_params[name])

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """The page for somebody unknown."""
        return page(template, {"actor": None, "path": self.request.url.path} | values, status)


@dataclass(frozen=True)
class PageContext(AnonymousContext):
    """A call by somebody known."""

    actor: Actor

    def ask(self, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The answer of ``use_case``; roles and tenant are checked there. Raises Forbidden, InvalidInput, and what it raises."""
        return perform(self.deps, self.actor, use_case, *args, **kwargs)

    def ask_form(self, use_case: UseCase[P, A], /, **fields: object) -> A:
        """The same where fields are text, as a form gives them."""
        return perform_request(self.deps, self.actor, use_case, value_of(use_case.request, fields))

    def may(self, action: Action) -> bool:
        """True when a role of the actor's allows ``action``: only to decide what a page offers."""
        return bool(self.actor.identity.roles & ROLES_FOR[action])

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """The page for the actor."""
        return super().page(template, status, **({"actor": self.actor} | values))


def see_other(path: str) -> Response:
    """Sends the browser on to look at ``path``."""
    return RedirectResponse(path, 303)


#: How a page answers whoever calls, and how one that needs a session does.
GuestView = Callable[[AnonymousContext], Response]
View = Callable[[PageContext], Response]


T = TypeVar("T")
#: Nobody leafs through more.
_FARTHEST = 10_000_000


@dataclass(frozen=True)
class Paging:
    """``skip`` of ``total`` are left out before this page of ``size``."""

    total: int
    skip: int
    size: int

    @classmethod
    def of(cls, query: Fields, total: int, size: int) -> Paging:
        """The page that the address asks for by ``skip``; the first where that is no number."""
        asked = query.get("skip", "0")
        return cls(total, min(int(asked), _FARTHEST) if asked.isascii() and asked.isdigit() and len(asked) < 12 else 0, size)

    @property
    def newer(self) -> int | None:
        """What the page before this one leaves out; None on the first."""
        return max(self.skip - self.size, 0) if self.skip else None

    @property
    def older(self) -> int | None:
        """What the next page leaves out; None on the last."""
        return self.skip + self.size if self.skip + self.size < self.total else None

    def cut(self, whole: Sequence[T]) -> Sequence[T]:
        """This page of a list that is here whole."""
        return whole[self.skip : self.skip + self.size]
