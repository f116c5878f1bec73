"""OpenAPI descriptions of routes, and the self-contained reference page ``GET /docs``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.params import Depends as Dependency
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import APIKeyCookie, HTTPBearer
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel

from tailorbird.auth.request_checks import COOKIE

_SESSION = HTTPBearer(
    scheme_name="session", auto_error=False, description="Secret of a session: tbs_<id>_<secret>. See POST /api/sessions."
)
_COOKIE = APIKeyCookie(name=COOKIE, scheme_name="session cookie", auto_error=False, description="The same, for browsers.")
_API_KEY = HTTPBearer(scheme_name="API key", auto_error=False, description="Secret of an API key: tb_<id>_<secret>.")

#: What a route declares that needs a session, or an API key. They only describe; the routes ask by themselves.
SESSION: list[Dependency] = [Depends(_SESSION), Depends(_COOKIE)]
API_KEY: list[Dependency] = [Depends(_API_KEY)]


def parameters(asks: type[BaseModel], names: Collection[str], place: str) -> list[dict[str, Any]]:
    """The fields ``names`` of ``asks`` as parameters in ``place`` (``path`` or ``query``)."""
    schema = inlined(asks)
    return [
        {"name": name, "in": place, "required": name in schema.get("required", ()), "schema": _as_text(schema["properties"][name])}
        for name in asks.model_fields
        if name in names
    ]


def json_body(asks: type[BaseModel], names: Collection[str] | None = None) -> dict[str, Any]:
    """The fields ``names`` (default: all) of ``asks`` as a JSON body, which may be left out where no field is required."""
    schema = inlined(asks)
    wanted = asks.model_fields if names is None else names
    schema["properties"] = {name: field for name, field in schema["properties"].items() if name in wanted}
    schema["required"] = [name for name in schema.get("required", ()) if name in wanted]
    return {"required": bool(schema["required"]), "content": {"application/json": {"schema": schema}}}


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model`` with every definition in the place where it is used: a route cannot add to those of the application."""
    schema = _schema(model)
    return {key: _inline(value, schema.get("$defs", {})) for key, value in schema.items() if key != "$defs"}


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Made once: a model is asked for by its path, its query and its body."""
    return model.model_json_schema()


def _inline(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inline(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inline(definitions[part["$ref"].rpartition("/")[2]], definitions)
    # A set that names something twice is taken: it is the same set.
    return {key: _inline(value, definitions) for key, value in part.items() if not (key == "uniqueItems" and value is True)}


def _as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not given is left out: there is no null in a URL."""
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if not kinds:
        return schema
    (kind,) = kinds
    return kind | {key: schema[key] for key in ("title", "description") if key in schema}


_FOLDER = Path(__file__).parent / "templates"
_METHODS = ("get", "post", "put", "patch", "delete")
#: Fields of fields are shown so deep.
_DEEPEST = 2


def reference_routes(console: str = "/console") -> APIRouter:
    """The page, and the way from the root to ``console``. Neither needs a key: they tell what everybody may know."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(_page(request.app), headers=_headers())

    @router.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse(console, status_code=303)

    return router


def _page(app: FastAPI) -> str:
    """The page of an application, made once."""
    made = getattr(app.state, "reference", None)
    if made is None:
        made = app.state.reference = _made(app)
    return str(made)


def _made(app: FastAPI) -> str:
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = made.from_string((_FOLDER / "reference.html").read_text(encoding="utf-8"))
    described = app.openapi()
    return template.render(
        title=described["info"]["title"], version=described["info"]["version"], style=_style(), groups=_groups(described)
    )


@cache
def _style() -> str:
    return (_FOLDER / "reference.css").read_text(encoding="utf-8")


def _headers() -> dict[str, str]:
    """Nothing but the page's own style may be used: no script, no other address."""
    known = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{known}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return {"content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def _groups(described: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The operations by their tags, in the order of the description."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in described["paths"].items():
        for method in (name for name in _METHODS if name in methods):
            operation = methods[method]
            groups.setdefault((operation.get("tags") or ["health"])[0], []).append(_operation(described, method, path, operation))
    return groups


def _operation(described: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    parameters = [
        {"name": each["name"], "where": each["in"], "required": each.get("required", False), **_field(described, each["schema"])}
        for each in operation.get("parameters", ())
    ]
    answers = [(status, answer["description"]) for status, answer in operation["responses"].items()]
    good = operation["responses"].get("200", operation["responses"].get("201", {}))
    answered = good.get("content", {}).get("application/json", {}).get("schema", {})
    return {
        "id": operation.get("operationId", f"{method}-{path}"),
        "method": method.upper(),
        "path": path,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "needs": sorted({name for one in operation.get("security", ()) for name in one}),
        "parameters": parameters,
        "body": list(_fields(described, body)),
        "answer": list(_fields(described, answered)),
        "answers": answers,
    }


def _fields(described: dict[str, Any], schema: dict[str, Any], before: str = "", depth: int = 1) -> Iterator[dict[str, Any]]:
    """The fields of an object, those of objects within behind them by their paths."""
    schema = _resolved(described, schema)
    for name, field in schema.get("properties", {}).items():
        path = f"{before}{name}"
        yield {"name": path, "required": name in schema.get("required", ()), **_field(described, field)}
        inner, mark = _inner(described, field)
        if depth < _DEEPEST and inner.get("properties"):
            yield from _fields(described, inner, f"{path}{mark}.", depth + 1)


def _inner(described: dict[str, Any], field: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The object within a field, and the mark of a list of them."""
    found = _resolved(described, field)
    for kind in found.get("anyOf", (found,)):
        one = _resolved(described, kind)
        if one.get("type") == "array":
            return _resolved(described, one.get("items", {})), "[]"
        if one.get("properties"):
            return one, ""
    return {}, ""


def _field(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found = _resolved(described, schema)
    return {"kind": _kind(described, found), "description": " ".join(schema.get("description", found.get("description", "")).split())}


def _kind(described: dict[str, Any], schema: dict[str, Any]) -> str:
    """The kind of a value in words: ``text``, ``list of number``, ``one of a, b``."""
    schema = _resolved(described, schema)
    if "enum" in schema:
        return "one of " + ", ".join("nothing" if value is None else str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        kinds = dict.fromkeys(_kind(described, kind) for kind in schema["anyOf"] if kind != {"type": "null"})
        return " or ".join(kinds)
    if schema.get("type") == "array":
        return f"list of {_kind(described, schema.get('items', {}))}"
    kind = str(schema.get("type", "any"))
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def _resolved(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to."""
    while "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
