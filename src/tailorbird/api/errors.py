"""Error responses in OpenAI's shape, on every route."""

from __future__ import annotations

import logging
import math
from copy import copy
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from tailorbird.domain.errors import (
    Exhausted,
    Forbidden,
    Internal,
    InvalidInput,
    NotFound,
    ObjectiveInvalid,
    TailorbirdError,
    Unauthenticated,
    Unavailable,
)
from tailorbird.serving.hosted_models import NOT_ASKED, STOOD_IN_FOR

#: Status to OpenAI's ``type``; other 4xx are ``invalid_request_error``, 5xx ``server_error``.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
#: Seconds after which asking again makes sense, by status.
_RETRY_AFTER = {429: "1", 503: "1"}


_MEANINGS = {
    400: "What was sent cannot be used.",
    401: "No credential, or one that does not prove what it claims.",
    403: "The caller is known, but may not do this.",
    404: "There is no such thing in the caller's tenant.",
    409: "The thing is in a state that does not allow this.",
    413: "The body has more bytes than are taken.",
    429: "Too often; retry-after says when to ask again.",
    500: "Something of ours is broken: bytes that are not what was stored, or a defect.",
    503: "A part cannot be reached; retry-after says when to ask again.",
}


class ErrorDetail(BaseModel):
    """What an error says. ``code`` is stable; ``hint`` says what to do next; ``param`` names the parameter to blame, ``line`` the line of
    an objective file."""

    message: str
    type: str
    param: str | None
    code: str
    hint: str
    line: int | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer with a status of 400 or more."""

    error: ErrorDetail


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers with these statuses, as a route declares them. The last one brings the model, the others refer to it: the framework makes
    a model ready anew wherever it stands, a thousand times for all routes."""
    schema = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}}}}
    model = {"model": ErrorAnswer}
    return {status: {"description": _MEANINGS[status]} | (model if status == statuses[-1] else schema) for status in statuses}


def error_body(error: TailorbirdError) -> dict[str, Any]:
    """The JSON body of ``error``."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    param = error.param if isinstance(error, InvalidInput) else None
    told: dict[str, Any] = {"message": error.message, "type": kind, "param": param, "code": error.error_code, "hint": error.hint}
    if isinstance(error, ObjectiveInvalid) and error.line:
        told["line"] = error.line
    return {"error": told}


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error that leaves ``app`` take OpenAI's shape. A path with a slash too many is unknown, too: nobody is sent elsewhere."""
    app.router.redirect_slashes = False
    app.add_exception_handler(TailorbirdError, _ours)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(ClientDisconnect, _nobody_waits)
    app.add_exception_handler(Exception, _defect)


def error_response(error: TailorbirdError) -> JSONResponse:
    """The response for ``error``."""
    headers = {"retry-after": _RETRY_AFTER[error.status]} if error.status in _RETRY_AFTER else {}
    if isinstance(error, Exhausted | Unavailable) and error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TailorbirdError)
    return error_response(error)


async def _framework(request: Request, error: Exception) -> Response:
    """No such route, or not that method; what else the framework may refuse with."""
    assert isinstance(error, HTTPException)
    told = {401: Unauthenticated, 403: Forbidden, 404: NotFound}.get(error.status_code, InvalidInput)
    code = {404: "no_such_route", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    hint = "the routes are listed at GET /openapi.json"
    response = error_response(told(f"{request.method} on this path: {error.detail}", hint, code=code))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    if error.status_code == 405:
        response.headers["allow"] = ", ".join(sorted({method for method in _METHODS if _has(request, method)}))
    return response


def _has(request: Request, method: str) -> bool:
    scope = dict(request.scope) | {"method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)


async def _nobody_waits(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


async def _defect(_request: Request, _error: Exception) -> Response:
    return error_response(Internal("something went wrong in this server", "try again; if it lasts, send the request id to the operator"))


_log = logging.getLogger("tailorbird.serving")

#: Codes of errors of an engine whose hints are for whoever runs it; those of a hosted model are in ``STOOD_IN_FOR``.
_OF_ENGINES = frozenset({"engine_defect", "engine_secret", "engine_unavailable", "scope_untold"})
#: What a caller may do, by code; of the others nothing but wait.
_OTHER_WORDS = "ask in other words, or another model"
_HINTS = {"endpoint_answer_refused": _OTHER_WORDS, "endpoint_request": _OTHER_WORDS}
_LATER = "try again later; if it lasts, the operator of this server finds the reason in its log"


def for_caller(error: TailorbirdError) -> TailorbirdError:
    """The error with a hint for the caller of an API; the hint for the operator is logged in its place."""
    if error.error_code not in STOOD_IN_FOR | _OF_ENGINES:
        return error
    if error.error_code != NOT_ASKED:  # the log tells once of an endpoint that is not asked
        _log.warning("a caller was told of %s: %s (%s)", error.error_code, error.message, error.hint)
    told = copy(error)
    told.__dict__.update(error.__dict__, hint=_HINTS.get(error.error_code, _LATER))
    return told
