"""What a browser sends: forms, and values read from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import Response
from pydantic import ValidationError

from tailorbird.auth import request_checks
from tailorbird.auth.request_checks import COOKIE
from tailorbird.domain.errors import Forbidden, InvalidInput, TooLarge, Unauthenticated
from tailorbird.domain.value import Value
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.sessions import SESSION_LASTS, actor_of

#: Bytes of a form at most, and fields in it.
LARGEST_FORM = 2**16
MOST_FIELDS = 20

#: The fields of a form or of an address's query; of two with one name the last counts.
Fields = Mapping[str, str]

V = TypeVar("V", bound=Value)


async def read_form(request: Request) -> Fields:
    """The fields of an URL-encoded form. Raises TooLarge (413) as soon as it is too long, InvalidInput when it is no form."""
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > LARGEST_FORM:
            raise TooLarge(f"the form has more than {LARGEST_FORM} bytes", "send less text", code="form_too_large")
    try:
        return dict(parse_qsl(read.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:
        raise InvalidInput("this is not a form", "send it from the page it belongs to", code="form_invalid") from None


def value_of(kind: type[V], fields: Mapping[str, object]) -> V:
    """The request value that ``fields`` give. Raises InvalidInput, naming the field to blame."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _blamed(error) from None


def value_of_text(kind: type[V], text: str) -> V:
    """The value that JSON ``text`` says. Raises InvalidInput."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _blamed(error) from None


def _blamed(error: ValidationError) -> InvalidInput:
    first = error.errors(include_input=False, include_url=False)[0]
    name = ".".join(map(str, first["loc"])) or "the form"
    return InvalidInput(f"{name}: {first['msg']}", "go back, and correct it", code="field_invalid", param=name)


def enter(deps: Dependencies, request: Request) -> Actor:
    """The actor whose session the cookie holds. Raises Unauthenticated."""
    secret = secret_of(request)
    if not secret:
        raise Unauthenticated("nobody is logged in", "log in with an identity's key", code="session_missing")
    return actor_of(deps, secret)


def secret_of(request: Request) -> str:
    """The session's secret in the cookie; empty where there is none."""
    return request.cookies.get(COOKIE, "")


def give_cookie(response: Response, request: Request, secret: str) -> None:
    """Puts a session's secret into a cookie that scripts cannot read and other sites cannot send."""
    response.set_cookie(
        COOKIE, secret, request_checks.cookie_seconds(SESSION_LASTS), **request_checks.cookie_settings(secure=_encrypted(request))
    )


def take_cookie(response: Response, request: Request) -> None:
    """Has the browser forget the cookie."""
    response.delete_cookie(COOKIE, **request_checks.cookie_settings(secure=_encrypted(request)))


def require_own_page(request: Request) -> None:
    """Returns when one of our own pages sent this request. Raises Forbidden."""
    if not request_checks.sent_by_own_page(request.headers):
        raise Forbidden(
            "this form was not sent from a page of this console", "open the page here, and send it from there", code="other_site"
        )


def _encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
