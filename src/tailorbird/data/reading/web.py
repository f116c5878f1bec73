"""A file over ``https://`` for submitted work: from the public internet, from the tenant's places, and from nowhere else.

In: an address that a grant covers. Out: its bytes. Must not know: formats.

The host's name is resolved once, every answer is checked, and the connection goes to the address that was checked; the certificate is
checked against the name. A redirect is an address like any other: no place covers it, no request goes there. Proxies, cookies and
credentials of the environment are not used.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.foundations.public_addresses import public_address_of
from tailorbird.foundations.reach import grant_for

#: Redirects that are followed at most.
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
#: Seconds for all of a file; for a connection, and for the next bytes.
_LONGEST = 3600.0
_PATIENCE = {"connect": 10.0, "read": 60.0, "write": 10.0, "pool": 10.0}


class _Checked(httpcore.NetworkBackend):
    """Connects to addresses of the public internet alone."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolves, checks, connects: one look at the name server. Raises Forbidden."""
        return self._plain.connect_tcp(public_address_of(host, port), port, timeout, local_address, socket_options)


def download(name: str, target: Path) -> None:
    """What lies at ``name``, written to ``target``.

    Raises Forbidden (a private address, a redirect to no place), DataInvalid (nothing there), OSError (no answer).
    """
    context = ssl.create_default_context()
    with _transport_errors(), httpcore.ConnectionPool(ssl_context=context, network_backend=_Checked()) as pool:
        address = name
        for _ in range(_MOST_REDIRECTS + 1):
            with pool.stream("GET", address, headers=_headers(address), extensions={"timeout": _PATIENCE}) as answer:
                if answer.status not in _REDIRECTS:
                    _save(name, answer, target)
                    return
                address = _next(address, answer)
    raise Unavailable(f"{name}: redirected more than {_MOST_REDIRECTS} times", "name the file's own address", code="data_unreachable")


def _headers(address: str) -> list[tuple[str, str]]:
    """Those of the credential of the place that covers this very address. Raises Forbidden where none does."""
    grant = grant_for(address)
    extra = dict(grant.options.get("headers", {})) if grant else {}
    return [("host", urlsplit(address).netloc), ("user-agent", "tailorbird"), ("accept-encoding", "identity"), *extra.items()]


def _next(address: str, answer: httpcore.Response) -> str:
    """Where a redirect leads. Whether that may be read is asked before anything goes there. Raises Unavailable."""
    for key, value in answer.headers:
        if key.lower() == b"location":
            return urljoin(address, value.decode("latin-1"))
    raise Unavailable(f"{address}: a redirect to nowhere", "check the address", code="data_unreachable")


def _save(name: str, answer: httpcore.Response, target: Path) -> None:
    if answer.status in (404, 410):
        raise DataInvalid(f"{name}: there is no such file", "check the address", code="file_missing")
    if answer.status != 200:
        raise Unavailable(f"{name}: the server answers {answer.status}", "check the address and its access", code="data_unreachable")
    started = time.monotonic()
    with target.open("wb") as out:
        for piece in answer.iter_stream():
            out.write(piece)
            if time.monotonic() - started > _LONGEST:
                raise Unavailable(f"{name}: not whole after {_LONGEST:.0f} s", "upload the file", code="data_unreachable")


@contextmanager
def _transport_errors() -> Iterator[None]:
    """What the transport says, as an error of the operating system."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, ssl.SSLError) as error:
        raise ConnectionError(type(error).__name__) from error
