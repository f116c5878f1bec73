"""HTTP servers: bound before anything else starts, shut down gracefully, on any thread."""

from __future__ import annotations

import asyncio
import asyncio.constants
import errno
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from tailorbird.domain.errors import Forbidden, InvalidInput, TailorbirdError, Unavailable
from tailorbird.processes.connections import HEAD_SECONDS, ConnectionLimits, LimitedConfig, TimeoutProtocol
from tailorbird.processes.tls import Tls
from tailorbird.system.files import OWNER_FILE, is_open_to_others

#: Seconds that requests in flight are given when a server ends.
_GRACE = 30
#: Connections the system holds until they are accepted.
_BACKLOG = 1024
#: Bytes of a Unix socket's path at most: 107 on Linux, 103 on macOS.
LONGEST_SOCKET = 103


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose.

    Raises Unavailable (port in use or not allowed), InvalidInput (no such address).
    """
    if not 0 <= port <= 65535:
        raise InvalidInput(f"{port} is not a port", "choose one between 1 and 65535, or 0 for any: --port N", code="host_invalid")
    try:
        listener = socket.create_server((host, port), family=family_of(host), backlog=_BACKLOG)
    except OSError as error:
        raise _not_bound(host, port, error) from error
    # Inherited by accepted connections. asyncio sets it only on sockets made with an explicit protocol, and without it every answer
    # (head and body are two writes) waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def family_of(host: str) -> socket.AddressFamily:
    """How ``host`` is reached: by IPv4, unless it has addresses of IPv6 alone. Raises OSError (no such name)."""
    families = {each[0] for each in socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)}
    return socket.AF_INET if socket.AF_INET in families else socket.AF_INET6


def listen_privately(place: Path) -> socket.socket:
    """A listening Unix socket at ``place``, in a folder that only its owner may enter: nobody else on this machine can reach it, or take
    its place while its owner is away. Raises Forbidden (others may enter the folder), Unavailable (it cannot be made there)."""
    if is_open_to_others(place.parent):
        raise Forbidden(f"{place.parent} is open to others", f"close it: chmod 700 {place.parent}", code="socket_open")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place.unlink(missing_ok=True)  # left by one that was killed
        listener.bind(str(place))
        place.chmod(OWNER_FILE)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"no socket can be made at {place}: {error.strerror or error}",
            "set TMPDIR to a folder with a short path that you may write",
            code="socket_failed",
        ) from error
    return listener


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with listen("127.0.0.1", 0) as probe:
        port: int = probe.getsockname()[1]
        return port


class Server(uvicorn.Server):
    """A server that leaves signals to its process, and says nothing of its own (see ``logs.py``).

    ``proxies`` are those whose ``x-forwarded-*`` headers are believed. ``admission`` limits connections; without it there
    may be any number.
    """

    def __init__(
        self, app: FastAPI, tls: Tls | None = None, proxies: Sequence[str] = (), admission: ConnectionLimits | None = None
    ) -> None:
        super().__init__(
            LimitedConfig(
                app,
                http=TimeoutProtocol,
                ws="none",  # an upgrade would leave the protocol that limits connections, whatever is installed beside us
                log_config=None,
                access_log=False,
                lifespan="on",
                server_header=False,
                timeout_graceful_shutdown=_GRACE,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies),
                ssl_certfile=tls.cert if tls else None,
                ssl_keyfile=tls.key if tls else None,
            )
        )
        self.config.admission = admission  # type: ignore[attr-defined]
        if tls is not None:
            # A connection is counted once it is encrypted: until then it has as long as for a head, not asyncio's minute.
            asyncio.constants.SSL_HANDSHAKE_TIMEOUT = HEAD_SECONDS
        self._tls = tls
        self._stamp = tls.stamp() if tls else None

    def renew_certificate(self) -> bool:
        """Takes up a certificate that was replaced; open connections keep theirs. Raises as ``Tls.check``, and keeps the old one then."""
        context = self.config.ssl
        if self._tls is None or context is None or self._tls.stamp() == self._stamp:
            return False
        self._tls.check()
        self._stamp = self._tls.stamp()
        context.load_cert_chain(self._tls.cert, self._tls.key)
        return True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes none: whoever runs the server also ends what stands beside it, and only then the process."""
        yield

    def end(self) -> None:
        """Ends the server once requests in flight have ended; told twice, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


@contextmanager
def ended_by_signals(server: Server) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM end ``server``. Off the main thread, where signals do not arrive, nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    taken = (signal.SIGINT, signal.SIGTERM)
    for number in taken:
        loop.add_signal_handler(number, server.end)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _not_bound(host: str, port: int, error: OSError) -> TailorbirdError:
    number = error.errno
    if number == errno.EADDRINUSE:
        return Unavailable(f"port {port} on {host} is in use", "end what uses it, or choose another: --port N", code="port_in_use")
    if number in (errno.EACCES, errno.EPERM):
        return Unavailable(f"port {port} on {host} may not be used", "choose a port above 1023: --port N", code="port_forbidden")
    return InvalidInput(
        f"{host} port {port} is not an address of this machine", "give an address of it: --host 127.0.0.1", code="host_invalid"
    )
