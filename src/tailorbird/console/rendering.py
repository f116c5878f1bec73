"""Templates to answers, with the headers that keep a page to itself.

In: a template's name and values. Out: HTML in which every value is escaped; responses. Must not know: where values come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from tailorbird.console.markdown import markdown_html
from tailorbird.domain.errors import NotFound
from tailorbird.foundations.canonical import short
from tailorbird.foundations.measures import lower_is_better
from tailorbird.reporting import comparison_lines, formatting, human_count, human_seconds

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
    folder = resources.files("tailorbird.console") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _MEDIA}


def _static_address(name: str) -> str:
    return f"/console/static/{name}?v={hashlib.sha256(_static()[name]).hexdigest()[:8]}"


@cache
def _environment() -> Environment:
    loader = PackageLoader("tailorbird.console", "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals["static"] = _static_address
    made.filters.update(
        short=short,
        markdown=markdown_html,
        count=human_count,
        seconds=human_seconds,
        memory=formatting.human_memory,
        process_memory=formatting.process_memory,
        money=formatting.human_money,
        moment=formatting.moment,
        estimate=formatting.estimate_text,
        comparing=comparison_lines,
        bound=lambda metric: "≤" if lower_is_better(metric) else "≥",
        metric=formatting.metric_text,
        finding=formatting.finding_text,
        difference=formatting.difference_text,
    )
    return made
