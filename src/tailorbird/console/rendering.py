"""Templates to answers, with the headers that keep a page to itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment

from tailorbird.console.markdown import markdown_html
from tailorbird.domain.errors import NotFound
from tailorbird.reporting import template_environment
from tailorbird.stats.metric_direction import lower_is_better

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
