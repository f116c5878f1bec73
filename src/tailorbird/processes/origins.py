"""By which addresses this server is known, so that a login which was signed for another one is refused.

What a request says of the host that it is for proves nothing: whoever passes a login on writes there what he likes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tailorbird.auth.origin_checks import origin_of
from tailorbird.processes.tls import Tls, is_open

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def own_origins(host: str, port: int, tls: Tls | None, public_urls: Sequence[str]) -> frozenset[str]:
    """The origins of a server on ``host``; one that listens on every address is known on loopback and by its certificate's names."""
    scheme = "https" if tls else "http"
    here = _LOOPBACK if _is_any(host) or not is_open(host) else (host,)
    named = {f"{scheme}://{_bracketed(name)}:{port}" for name in (*here, *(tls.names() if tls else ()))}
    return frozenset(map(origin_of, (*named, *public_urls)))


def check_urls(public_urls: Sequence[str]) -> None:
    """Raises InvalidInput for what is not the address of a server."""
    for url in public_urls:
        origin_of(url)


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
