"""What a browser sends, and how pages are answered: forms, cookies, templates, headers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import unescape
from importlib import resources
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qsl, quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

from tailorbird.auth import ROLES_FOR, Action, request_checks
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound, TooLarge, Unauthenticated
from tailorbird.domain.value import Value
from tailorbird.evaluation.metrics import lower_is_better
from tailorbird.reporting.documents import difference_range
from tailorbird.reporting.tables import (
    NOTHING,
    bounded_text,
    cell_text,
    human_count,
    human_memory,
    human_money,
    human_seconds,
    markdown_parser,
    moment,
    page_environment,
    value_at,
)
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.registry import UseCase, perform, perform_request, validated
from tailorbird.usecases.sessions import SESSION_LASTS, LoginEntry, actor_of

#: The cookie that holds a session's secret.
COOKIE = "tailorbird_session"
#: Bytes of a form at most, and fields in it.
LARGEST_FORM = 2**16
MOST_FIELDS = 20

#: The page of the objectives.
FIRST_PAGE = "/console"

#: The fields of a form or of an address's query; of two with one name the last counts.
Fields = Mapping[str, str]

V = TypeVar("V", bound=Value)


async def read_form(request: Request) -> Fields:
    """The fields of an URL-encoded form. Raises TooLarge (413) as soon as it is too long, InvalidInput when it is no form."""
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > LARGEST_FORM:
            raise TooLarge(f"the form has more than {LARGEST_FORM} bytes", "send less text")
    try:
        return dict(parse_qsl(read.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:
        raise InvalidInput("this is not a form", "send it from the page it belongs to") from None


def value_of_text(kind: type[V], text: str) -> V:
    """The value that JSON ``text`` says. Raises InvalidInput, naming the field to blame."""
    try:
        fields = json.loads(text)
    except ValueError:
        raise InvalidInput("the form: Invalid JSON", "go back, and send it again", code="field_invalid", param="the form") from None
    return validated(kind, fields)


def actor_in(deps: Dependencies, request: Request) -> Actor:
    """The actor whose session the cookie holds. Raises Unauthenticated."""
    secret = secret_of(request)
    if not secret:
        raise Unauthenticated("nobody is logged in", "log in with an identity's key")
    return actor_of(deps, secret)


def secret_of(request: Request) -> str:
    """The session's secret in the cookie; empty where there is none."""
    return request.cookies.get(COOKIE, "")


def give_cookie(response: Response, request: Request, secret: str) -> None:
    """Puts a session's secret into a cookie that scripts cannot read and other sites cannot send; an empty one is forgotten."""
    lasts, secure = int(SESSION_LASTS.total_seconds()) if secret else 0, request.url.scheme == "https"
    response.set_cookie(COOKIE, secret, lasts, path="/", httponly=True, samesite="strict", secure=secure)


def require_own_page(request: Request) -> None:
    """Returns when one of our own pages sent this request. Raises Forbidden."""
    if not request_checks.sent_by_own_page(request.headers):
        raise Forbidden("this form was not sent from a page of this console", "open the page here, and send it from there")


#: Characters of a document that are made into HTML; a longer one is shown as it is: a megabyte would take ten seconds, in which hardly
#: anybody else is answered.
LONGEST = 1 << 16


def markdown_html(text: str) -> Markup:
    """``text`` as HTML. Front matter (YAML between two lines ``---`` at the very start) is shown as code, and so is a very long document,
    or one of which Markdown would leave out letters (cells that no column has, items too deep): who approves reads all that was written."""

    def letters(text: str) -> Counter[str]:
        return Counter(letter for letter in text if letter.isalpha())

    if len(text) > LONGEST:
        return _code(text)
    front, fence, body = text.removeprefix("---\n").partition("\n---\n") if text.startswith("---\n") else ("", "", text)
    if front and not fence:
        front, body = "", text
    made = Markup(_parser().render(body))
    shown = made if letters(made.striptags()) == letters(unescape(body)) else _code(body)
    return (_code(front) + "\n" if front else Markup("")) + shown


@cache
def _parser() -> MarkdownIt:
    made = markdown_parser()
    made.core.ruler.push("page", _fit_page)
    made.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>')
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
    """Headings two levels down, below the page's own title and the section's (``# h`` becomes ``<h3>``); heads of tables with
    their scope. A table whose head is empty names its rows by their first cell instead."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
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


def filled(template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
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
        raise NotFound("there is no such file", "reload the page that asked for it")
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(found, media_type=_MEDIA[name.rpartition(".")[2]], headers=kept)


@cache
def _static() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (resources.files("tailorbird.console") / "static").iterdir()}


def _static_address(name: str) -> str:
    return f"/console/static/{name}?v={hashlib.sha256(_static()[name]).hexdigest()[:8]}"


_ADDRESS = '<a href="/console/{}/{}"><code>{}</code></a>'
#: How a value is shown, by the name of its format: in templates, and in columns of tables.
_FORMATS: dict[str, Callable[[Any], object]] = {
    "badge": lambda word: Markup('<span class="badge is-{}">{}</span>').format(word, word.replace("_", " ")),
    "bounded": bounded_text,
    "code": lambda text: Markup('<code class="digest">{}</code>').format(text),
    "count": human_count,
    "difference": lambda one: difference_range(one.guard, one.low, one.high),
    "exactly": lambda at: Markup('<time datetime="{}">{} UTC</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}"),
    "labels": lambda digest: Markup('<a href="/console/data/{}/labels">Look at them</a>').format(short(digest, 64)),
    "memory": human_memory,
    "money": human_money,
    "release": lambda digest: Markup(_ADDRESS).format("releases", short(digest, 64), short(digest)),
    # An id begins with its time, which requests of a minute share: what tells them apart is its end.
    "request": lambda request: Markup(_ADDRESS).format("requests", request, f"…{request[-12:]}"),
    "rollout": lambda rollout: Markup(_ADDRESS).format("rollouts", rollout, rollout),
    "run": lambda run: Markup(_ADDRESS).format("runs", run, run),
    "seconds": human_seconds,
    "share": lambda share: f"{100 * share:.0f} %",
    "subject": lambda subject: Markup('<a href="/console/audit?subject={}"><code>{}</code></a>').format(
        quote(subject), subject[7:19] if subject.startswith("sha256:") else subject
    ),
    "when": lambda at: Markup('<time datetime="{}">{}</time>').format(at.isoformat(), moment(at)),
    "yes": lambda holds: "yes" if holds else "",
}
#: Formats of columns that hold numbers.
_NUMBERS = frozenset({"count", "money", "seconds"})


def cells(entry: object, columns: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    """The cells of one row, each with its class. A column is a path, where need be with ``|`` and a format: a name of ours, one of
    printf's, or the class ``prose``."""
    for column in columns.values():
        path, _, form = column.partition("|")
        value = value_at(entry, path)
        kind = "number" if isinstance(value, int | float) or form in _NUMBERS else form if form == "prose" else ""
        if value is None or value == "":
            yield kind, NOTHING
        elif isinstance(value, Markup):
            yield kind, value
        elif "%" in form:
            yield kind, form % value
        elif isinstance(value, datetime):
            yield kind, _FORMATS[form or "when"](value)
        else:
            yield kind, _FORMATS.get(form, cell_text)(value) or NOTHING


#: The pages that every page leads to, by their address.
SECTIONS = {
    "Objectives": "",
    "Data": "/data",
    "Runs": "/runs",
    "Releases": "/releases",
    "Rollouts": "/rollouts",
    "Reviews": "/reviews",
    "Traffic": "/traffic",
    "Signals": "/signals",
    "Audit log": "/audit",
}


@cache
def _environment() -> Environment:
    made = page_environment("tailorbird.console")
    made.filters.update(_FORMATS, cells=cells, short=short, markdown=markdown_html)
    made.filters["bound"] = lambda metric: "≤" if lower_is_better(metric) else "≥"
    parts: Any = made.get_template("_parts.html").module
    made.globals.update(static=_static_address, sections=SECTIONS, table=parts.table, facts=parts.facts)
    return made


P = ParamSpec("P")
A = TypeVar("A", bound=Value)


@dataclass(frozen=True)
class Guest:
    """A call by somebody who has not shown who they are. ``form`` is what was posted, empty for GET."""

    entry: LoginEntry
    request: Request
    form: Fields

    @property
    def deps(self) -> Dependencies:
        """The opened ports."""
        return self.entry.deps

    @property
    def query(self) -> Fields:
        """The fields of the address."""
        return self.request.query_params

    def named(self, name: str) -> str:
        """A piece of the address that the route names."""
        return str(self.request.path_params[name])

    def page(self, template: str, status: int = 200, /, **values: object) -> Response:
        """The page for whoever calls."""
        return filled(template, {"actor": None, "path": self.request.url.path} | values, status)


@dataclass(frozen=True)
class Visit(Guest):
    """A call by somebody known."""

    actor: Actor

    def ask(self, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The answer of ``use_case``; roles and tenant are checked there. Raises Forbidden, InvalidInput, and what it raises."""
        return perform(self.deps, self.actor, use_case, *args, **kwargs)

    def ask_form(self, use_case: UseCase[P, A], /, **fields: object) -> A:
        """The same where fields are text, as a form gives them."""
        return perform_request(self.deps, self.actor, use_case, use_case.read(fields))

    def may(self, action: Action) -> bool:
        """True when a role of the actor's allows ``action``: only to decide what a page offers."""
        return bool(self.actor.identity.roles & ROLES_FOR[action])

    def page(self, template: str, status: int = 200, /, **values: object) -> Response:
        """The page for the actor."""
        return super().page(template, status, **({"actor": self.actor} | values))

    def tables(self, title: str, *tables: tuple[str, Mapping[str, str], Sequence[object], str], **values: object) -> Response:
        """A page of tables: of each its caption, columns, entries, and what stands there instead of none."""
        return self.page("tables.html", title=title, tables=tables, **({"paging": None, "windows": ()} | values))

    def message(self, title: str, lines: Sequence[str], known: Mapping[str, object] | None = None, **values: object) -> Response:
        """A page of a few lines and facts, as ``message_of`` has it."""
        return self.page("message.html", **message_of(title, lines, known, **values))


def message_of(title: str, lines: Sequence[str], known: Mapping[str, object] | None = None, **values: object) -> dict[str, object]:
    """What fills a page of a few lines and facts. With ``button`` it asks before something is done by a POST to the same address, which the
    fields ``hidden`` go along with."""
    usual: dict[str, object] = {"button": "", "ask_reason": False, "hidden": {}, "back": FIRST_PAGE, "problem": False}
    return usual | {"title": title, "lines": lines, "known": known or {}} | values


def see_other(path: str) -> Response:
    """Sends the browser on to look at ``path``."""
    return RedirectResponse(path, 303)


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
