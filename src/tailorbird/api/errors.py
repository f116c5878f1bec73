"""Errors in OpenAI's shape.

In: errors of our tree, and those of the web framework. Out: ``{"error": {message, type, param, code, hint}}`` with the right status.
Must not know: routes.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tailorbird.domain.errors import Forbidden, Internal, InvalidInput, NotFound, TailorbirdError, Unauthenticated

#: Status to OpenAI's ``type``; other 4xx are ``invalid_request_error``, 5xx ``server_error``.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
#: Seconds after which asking again makes sense, by status.
_RETRY_AFTER = {429: "1", 503: "1"}


def error_body(error: TailorbirdError) -> dict[str, Any]:
    """The JSON body of ``error``."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    param = error.param if isinstance(error, InvalidInput) else None
    return {"error": {"message": error.message, "type": kind, "param": param, "code": error.error_code, "hint": error.hint}}


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error that leaves ``app`` take OpenAI's shape."""
    app.add_exception_handler(TailorbirdError, _ours)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(ClientDisconnect, _nobody_waits)
    app.add_exception_handler(Exception, _defect)


def error_response(error: TailorbirdError) -> JSONResponse:
    """The response for ``error``."""
    headers = {"retry-after": _RETRY_AFTER[error.status]} if error.status in _RETRY_AFTER else {}
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
    return response


async def _nobody_waits(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


async def _defect(_request: Request, _error: Exception) -> Response:
    return error_response(Internal("something went wrong in this server", "try again; if it lasts, send the request id to the operator"))
