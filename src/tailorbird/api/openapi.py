"""How a route describes in OpenAPI what it reads by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import Depends
from fastapi.params import Depends as Dependency
from fastapi.security import APIKeyCookie, HTTPBearer
from pydantic import BaseModel

from tailorbird.auth.origin_checks import COOKIE

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
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {key: _inline(value, definitions) for key, value in schema.items()}


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
