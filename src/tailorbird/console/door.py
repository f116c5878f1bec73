"""Who comes in: the session in a cookie, and whether a form was sent from our own pages.

In: a request. Out: the actor of its session; a cookie. Must not know: pages, what the actor wants. The rule itself is that of the API too
(``access/browsers.py``).
"""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from tailorbird.access import browsers
from tailorbird.access.browsers import COOKIE
from tailorbird.domain.errors import Forbidden, Unauthenticated
from tailorbird.lifecycle import Actor, Parts
from tailorbird.lifecycle.identities.sessions import SESSION_LASTS, actor_of


def enter(parts: Parts, request: Request) -> Actor:
    """The actor whose session the cookie holds. Raises Unauthenticated."""
    secret = secret_of(request)
    if not secret:
        raise Unauthenticated("nobody is logged in", "log in with an identity's key", code="session_missing")
    return actor_of(parts, secret)


def secret_of(request: Request) -> str:
    """The session's secret in the cookie; empty where there is none."""
    return request.cookies.get(COOKIE, "")


def give_cookie(response: Response, request: Request, secret: str) -> None:
    """Puts a session's secret into a cookie that scripts cannot read and other sites cannot send."""
    response.set_cookie(COOKIE, secret, browsers.cookie_seconds(SESSION_LASTS), **browsers.kept(secure=_encrypted(request)))


def take_cookie(response: Response, request: Request) -> None:
    """Has the browser forget the cookie."""
    response.delete_cookie(COOKIE, **browsers.kept(secure=_encrypted(request)))


def require_own_page(request: Request) -> None:
    """Returns when one of our own pages sent this request. Raises Forbidden."""
    if not browsers.sent_by_own_page(request.headers):
        raise Forbidden(
            "this form was not sent from a page of this console", "open the page here, and send it from there", code="other_site"
        )


def _encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
