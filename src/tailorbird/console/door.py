"""Who comes in: the session in a cookie, and whether a form was sent from our own pages.

In: a request. Out: the actor of its session; a cookie. Must not know: pages, what the actor wants.

A cookie is sent with whatever asks for our address, so a form that changes something counts only when the browser says that one of our own
pages sent it: by ``Sec-Fetch-Site``, or by ``Origin`` where the connection is not encrypted and the former is not sent. The cookie is
``SameSite=Strict`` besides.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response

from tailorbird.domain.errors import Forbidden, Unauthenticated
from tailorbird.lifecycle import Actor, Parts
from tailorbird.lifecycle.sessions import actor_of

COOKIE = "tailorbird_session"


def enter(parts: Parts, request: Request) -> Actor:
    """The actor whose session the cookie holds. Raises Unauthenticated."""
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise Unauthenticated("nobody is logged in", "log in with an identity's key", code="session_missing")
    return actor_of(parts, secret)


def give_cookie(response: Response, request: Request, secret: str) -> None:
    """Puts a session's secret into a cookie that scripts cannot read and other sites cannot send."""
    response.set_cookie(COOKIE, secret, path="/", httponly=True, samesite="strict", secure=_encrypted(request))


def take_cookie(response: Response, request: Request) -> None:
    """Has the browser forget the cookie."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=_encrypted(request))


def require_own_page(request: Request) -> None:
    """Returns when one of our own pages sent this request. Raises Forbidden."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    own = site == "same-origin" if site is not None else urlsplit(origin).netloc == request.headers.get("host")
    if not own:
        raise Forbidden(
            "this form was not sent from a page of this console", "open the page here, and send it from there", code="other_site"
        )


def _encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
