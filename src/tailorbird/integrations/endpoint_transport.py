"""Connections to an endpoint: where its name leads is looked up and checked apart from everybody else's work, and heads of answers end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any

import httpcore
import httpx

from tailorbird.system.outward_access import endpoint_address_of

#: Names that are looked up at once. A name server that does not answer holds a thread for as long as the system waits: in the event loop's
#: own threads, which look up keys and read the record, everybody would wait behind it.
_LOOKUPS = ThreadPoolExecutor(16, thread_name_prefix="endpoint-names")
#: Bytes of the heads of one answer, and of them that are read at a time: a server may send as many provisional ones (102 Processing) before
#: it as it likes, and all that is read at once is gone through at once.
_HEAD_BYTES, _HEAD_READ = 1 << 17, 1 << 13
_CONNECTIONS, _KEPT_IDLE = 64, 5.0
#: What whoever traces a request hears before its connection is opened, or waited for where all are in use.
AWAITS_CONNECTION = "endpoint.awaits_connection"


class CheckedTransport(httpx.AsyncBaseTransport):
    """Resolves each name once, checks where it leads, and connects there; TLS is checked against the name. Requests that begin while a name
    is looked up wait for the same look."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._plain = _Transport()
        self._lookups: dict[tuple[str, int], asyncio.Future[str]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request to the checked address. Raises Forbidden, OSError, httpx.TransportError."""
        host, port = request.url.raw_host.decode("ascii"), request.url.port or (443 if request.url.scheme == "https" else 80)
        looking = self._lookups.get((host, port))
        if looking is None:
            look = partial(endpoint_address_of, host, port, private=self._private)
            looking = self._lookups[host, port] = asyncio.get_running_loop().run_in_executor(_LOOKUPS, look)
            looking.add_done_callback(lambda found: self._looked(host, port, found))
        address = await asyncio.shield(looking)
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        if (trace := request.extensions.get("trace")) is not None:
            await trace(AWAITS_CONNECTION, {})
        token = _HEADS.set(_Heads())
        try:
            return await self._plain.handle_async_request(request)
        finally:
            _HEADS.reset(token)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._plain.aclose()

    def _looked(self, host: str, port: int, found: asyncio.Future[str]) -> None:
        del self._lookups[host, port]
        if not found.cancelled():
            found.exception()  # whoever waited may be gone


class _Heads:
    """Bytes that are left for the heads of an answer."""

    left = _HEAD_BYTES


#: Of the answer that is waited for; None while its body is read.
_HEADS: ContextVar[_Heads | None] = ContextVar("heads", default=None)


class _Transport(httpx.AsyncHTTPTransport):
    """As httpx's, over connections with limited heads."""

    def __init__(self) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=_CONNECTIONS,
            keepalive_expiry=_KEPT_IDLE,
            network_backend=_Network(),
        )


class _Network(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _BoundedConnection(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _BoundedConnection(httpcore.AsyncNetworkStream):
    def __init__(self, plain: httpcore.AsyncNetworkStream) -> None:
        self._plain = plain

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        heads = _HEADS.get()
        if heads is None:
            return await self._plain.read(max_bytes, timeout)
        read = await self._plain.read(min(max_bytes, _HEAD_READ), timeout)
        heads.left -= len(read)
        if heads.left < 0:
            raise httpcore.ReadError("heads without end")
        return read

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._plain.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._plain.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _BoundedConnection(await self._plain.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)
