"""Origin checks and session cookies for browsers and other clients, shared by the API and the console.

A cookie is sent by the browser whoever made the page, so a request that changes something and shows its session by cookie must also show
that a page of ours sent it. The cookie is ``SameSite=Strict`` besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, TypedDict
from urllib.parse import urlsplit

from tailorbird.domain.errors import InvalidInput

#: The cookie that holds a session's secret, and the header that no page of another site can add.
COOKIE, OWN_HEADER = "tailorbird_session", "x-tailorbird-csrf"

_PORTS = {"http": 80, "https": 443}


class CookieSettings(TypedDict):
    """Cookie attributes, as web frameworks name them."""

    path: str
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


def cookie_settings(*, secure: bool) -> CookieSettings:
    """Attributes of session cookies: HttpOnly, SameSite=Strict, and Secure where the connection is encrypted."""
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": secure}


def cookie_seconds(lasts: timedelta) -> int:
    """Max-Age in seconds of the cookie of a session that lasts so long."""
    return int(lasts.total_seconds())


def sent_by_own_page(headers: Mapping[str, str]) -> bool:
    """True when the header that only our own pages and programs can add says so, or the browser does: by ``sec-fetch-site``, or by
    ``origin`` where it does not send the former (over a connection that is not encrypted)."""
    if headers.get(OWN_HEADER) == "1":
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return "origin" in headers and urlsplit(headers["origin"]).netloc == headers.get("host")


def origin_of(url: str) -> str:
    """The origin of an address, as browsers write it: ``https://host``, with the port where it is not the usual one.

    Raises InvalidInput for what is no http(s) address.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in _PORTS or not host:
        raise InvalidInput(f"{url[:200]} is not the address of a server", "write it as https://host:port", code="server_address")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")
