"""``/api``: one route per use case, generated from the registry."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from tailorbird.api.artifacts import LARGEST_FILE, artifact_routes
from tailorbird.api.authentication import Authenticator, shows_api_key
from tailorbird.api.errors import error_answers
from tailorbird.api.openapi import SESSION, json_body, parameters
from tailorbird.api.request_body import read_body, read_json_value, read_object, read_text_value, require_type, unknown
from tailorbird.api.sessions import SessionActors, answer_with, session_routes
from tailorbird.auth import ROLES_FOR
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.identity import Role
from tailorbird.domain.value import Value
from tailorbird.usecases.operations import OPERATIONS, AnyOperation, Nothing, perform, perform_for_program
from tailorbird.usecases.sessions import LoginEntry

#: Bytes of a request at most: an objective's text (a mebibyte, escaped) and the digests of many files.
_LARGEST_REQUEST = 2**22


def control_routes(entrance: LoginEntry, largest_upload: int = LARGEST_FILE) -> APIRouter:
    """All routes below ``/api``. Errors leave as exceptions of our tree (see ``errors.py``)."""
    router, sessions = APIRouter(), SessionActors(entrance)
    programs = Authenticator(sessions.deps.ledger, sessions.deps.clock)
    router.include_router(session_routes(sessions))
    router.include_router(artifact_routes(sessions, largest_upload))
    for operation in OPERATIONS:
        router.add_api_route(operation.path, _endpoint(sessions, programs, operation), **_described(operation))
    return router


def path_names(operation: AnyOperation) -> tuple[str, ...]:
    """The fields of what is asked that stand in the path."""
    return tuple(re.findall(r"\{(\w+)\}", operation.path))


def _endpoint(sessions: SessionActors, programs: Authenticator, operation: AnyOperation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if operation.scope is not None and shows_api_key(request):
            key = await programs(request, operation.scope)
            wanted = await _read(operation, request)
            return answer_with(await sessions.run(perform_for_program, sessions.deps, key, operation, wanted))
        actor = await sessions.actor(request)
        asked = await _read(operation, request)
        return answer_with(await sessions.run(perform, sessions.deps, actor, operation, asked))

    return endpoint


async def _read(operation: AnyOperation, request: Request) -> Value:
    """What is asked, from path, query and body. Raises InvalidInput, TooLarge."""
    known = [name for name in operation.asks.model_fields if name not in request.path_params]
    if operation.method == "GET":
        value: Value = read_text_value(operation.asks, _query(request, known) | request.path_params)
    else:
        _query(request, [])
        value = read_json_value(operation.asks, await _fields(request, known) | request.path_params)
    return value


def _query(request: Request, known: list[str]) -> dict[str, str]:
    """The parameters behind the question mark. Raises InvalidInput for one that is unknown, or there twice."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise unknown(name[:128], known)
        if name in given:
            raise InvalidInput(f"{name} is given twice", "give it once", code="invalid_value", param=name)
        given[name] = value
    return given


async def _fields(request: Request, known: list[str]) -> dict[str, Any]:
    """The JSON object in the body; an empty body asks for nothing in particular. Raises InvalidInput, TooLarge."""
    body = await read_body(request, _LARGEST_REQUEST)
    if not body:
        return {}
    require_type(request, "application/json")
    given = read_object(body, "{...}, or nothing where no parameter is needed")
    for name in given.keys() & request.path_params.keys():
        raise unknown(name, known)
    return given


def _in_words(operation: AnyOperation) -> str:
    """What is taken and answered, as the values themselves say, and who may ask."""
    taken = "" if operation.asks is Nothing else f"Takes: {_first(operation.asks)} "
    allowed = ROLES_FOR[operation.action]
    who = "anybody with a session" if allowed == frozenset(Role) else ", ".join(sorted(role.value for role in allowed))
    programs = f"; programs with a key of the scope {operation.scope.value}" if operation.scope else ""
    return f"{taken}Answers: {_first(operation.answers)} Allowed for: {who}{programs}."


def _first(kind: type[Value]) -> str:
    """The first paragraph of what a value says of itself, on one line and without marks of code."""
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].replace("``", "`").split())


def _described(operation: AnyOperation) -> dict[str, Any]:
    """The route in OpenAPI."""
    in_path = path_names(operation)
    others = [name for name in operation.asks.model_fields if name not in in_path]
    extra: dict[str, Any] = {"parameters": parameters(operation.asks, in_path, "path")}
    if operation.method == "GET":
        extra["parameters"] += parameters(operation.asks, others, "query")
    elif others:
        extra["requestBody"] = json_body(operation.asks, others)
    names = in_path or operation.method == "POST" or any(field.is_required() for field in operation.asks.model_fields.values())
    missing = (404,) if names else ()
    changing = (409, 413) if operation.method == "POST" else (409,) if in_path else ()
    return {
        "methods": [operation.method],
        "operation_id": operation.name,
        "name": operation.name,
        "summary": operation.summary,
        "description": _in_words(operation),
        "tags": [operation.name.partition(".")[0]],
        "response_model": operation.answers,
        "responses": error_answers(400, 401, 403, *missing, *changing, 429, 500, 503),
        "dependencies": SESSION,
        "openapi_extra": extra,
    }
