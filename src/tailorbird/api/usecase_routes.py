"""``/api``: one route per use case, generated from the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from tailorbird.api.artifacts import LARGEST_FILE, artifact_routes
from tailorbird.api.authentication import Authenticator, shows_api_key
from tailorbird.api.errors import error_answers
from tailorbird.api.openapi import SESSION, json_body, parameters
from tailorbird.api.request_context import read_body, read_json_value, read_object, read_text_value, require_type, unknown
from tailorbird.api.sessions import SessionActors, answer_with, session_routes
from tailorbird.auth import ROLES_FOR
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.identity import Role
from tailorbird.domain.value import Value
from tailorbird.usecases.registry import AnyUseCase, perform_for_program, perform_request, use_cases
from tailorbird.usecases.sessions import LoginEntry

#: Bytes of a request at most: an objective's text (a mebibyte, escaped) and the digests of many files.
_LARGEST_REQUEST = 2**22


def control_routes(entrance: LoginEntry, largest_upload: int = LARGEST_FILE) -> APIRouter:
    """All routes below ``/api``. Errors leave as exceptions of our tree (see ``errors.py``)."""
    router, sessions = APIRouter(), SessionActors(entrance)
    programs = Authenticator(sessions.deps.ledger, sessions.deps.clock)
    router.include_router(session_routes(sessions))
    router.include_router(artifact_routes(sessions, largest_upload))
    for use_case in use_cases():
        router.add_api_route(use_case.path, _endpoint(sessions, programs, use_case), **_described(use_case))
    return router


def _endpoint(sessions: SessionActors, programs: Authenticator, use_case: AnyUseCase) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if use_case.scope is not None and shows_api_key(request):
            key = await programs(request, use_case.scope)
            wanted = await _read(use_case, request)
            return answer_with(await sessions.run_for(key.tenant, perform_for_program, sessions.deps, key, use_case, wanted))
        actor = await sessions.actor(request)
        asked = await _read(use_case, request)
        return answer_with(await sessions.run_for(actor.tenant, perform_request, sessions.deps, actor, use_case, asked))

    return endpoint


async def _read(use_case: AnyUseCase, request: Request) -> Value:
    """What is asked, from path, query and body. Raises InvalidInput, TooLarge."""
    known = [name for name in use_case.request.model_fields if name not in request.path_params]
    if use_case.method == "GET":
        value: Value = read_text_value(use_case.request, _query(request, known) | request.path_params)
    else:
        _query(request, [])
        value = read_json_value(use_case.request, await _fields(request, known) | request.path_params)
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


def _in_words(use_case: AnyUseCase) -> str:
    """What is taken and answered, as the values themselves say, and who may ask."""
    taken = f"Takes: {_first(use_case.request)} " if use_case.request.__doc__ else ""
    allowed = ROLES_FOR[use_case.action]
    who = "anybody with a session" if allowed == frozenset(Role) else ", ".join(sorted(role.value for role in allowed))
    programs = f"; programs with a key of the scope {use_case.scope.value}" if use_case.scope else ""
    return f"{taken}Answers: {_first(use_case.response)} Allowed for: {who}{programs}."


def _first(kind: type[Value]) -> str:
    """The first paragraph of what a value says of itself, on one line and without marks of code."""
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].replace("``", "`").split())


def _described(use_case: AnyUseCase) -> dict[str, Any]:
    """The route in OpenAPI."""
    in_path = use_case.in_path
    others = [name for name in use_case.request.model_fields if name not in in_path]
    extra: dict[str, Any] = {"parameters": parameters(use_case.request, in_path, "path")}
    if use_case.method == "GET":
        extra["parameters"] += parameters(use_case.request, others, "query")
    elif others:
        extra["requestBody"] = json_body(use_case.request, others)
    names = in_path or use_case.method == "POST" or any(field.is_required() for field in use_case.request.model_fields.values())
    missing = (404,) if names else ()
    changing = (409, 413) if use_case.method == "POST" else (409,) if in_path else ()
    return {
        "methods": [use_case.method],
        "operation_id": use_case.name,
        "name": use_case.name,
        "summary": use_case.summary,
        "description": _in_words(use_case),
        "tags": [use_case.name.partition(".")[0]],
        "response_model": use_case.response,
        "responses": error_answers(400, 401, 403, *missing, *changing, 429, 500, 503),
        "dependencies": SESSION,
        "openapi_extra": extra,
    }
