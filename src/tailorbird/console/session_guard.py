"""Who comes in: the session in a cookie, and whether a form was sent from our own pages."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from tailorbird.auth import origin_checks
from tailorbird.auth.origin_checks import COOKIE
from tailorbird.domain.errors import Forbidden, Unauthenticated
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.sessions import SESSION_LASTS, actor_of


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
        COOKIE, secret, origin_checks.cookie_seconds(SESSION_LASTS), **origin_checks.cookie_settings(secure=_encrypted(request))
    )


def take_cookie(response: Response, request: Request) -> None:
    """Has the browser forget the cookie."""
    response.delete_cookie(COOKIE, **origin_checks.cookie_settings(secure=_encrypted(request)))


def require_own_page(request: Request) -> None:
    """Returns when one of our own pages sent this request. Raises Forbidden."""
    if not origin_checks.sent_by_own_page(request.headers):
        raise Forbidden(
            "this form was not sent from a page of this console", "open the page here, and send it from there", code="other_site"
        )


def _encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
