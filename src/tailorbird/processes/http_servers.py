"""HTTP servers: bound before anything else starts, shut down gracefully, on any thread."""

from __future__ import annotations

import asyncio
import asyncio.constants
import errno
import ipaddress
import resource
import signal
import socket
import ssl
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h11
import uvicorn
from cryptography import x509
from fastapi import FastAPI
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from tailorbird.domain.errors import Forbidden, InvalidInput, TailorbirdError, Unavailable
from tailorbird.system.files import EVERYBODY_ELSE, OWNER_FILE, is_open_to_others

#: Connections at most, if the system's limit of descriptors allows: each may need a second one, to the engine; and so many for all else.
MOST, _RESERVED = 4096, 256
#: Descriptors that are asked for.
_WANTED = 65_536


class ConnectionLimits:
    """The connections of one server, at most ``most``; touched only from its event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        #: In the order in which they came, or last came to rest.
        self._waiting: dict[TimeoutProtocol, None] = {}
        self._busy: set[TimeoutProtocol] = set()

    @property
    def count(self) -> int:
        """Connections there are."""
        return len(self._waiting) + len(self._busy)

    def enter(self, connection: TimeoutProtocol) -> bool:
        """Counts a new connection, for which the one that waits longest may be closed. False, and not counted: there is no room."""
        if self.count >= self.most:
            if not self._waiting:
                return False
            longest = next(iter(self._waiting))
            self.leave(longest)
            longest.end()
        self._waiting[connection] = None
        return True

    def note(self, connection: TimeoutProtocol) -> None:
        """Whether a whole request of it is being answered, or it waits again: behind those that wait already."""
        if connection in self._busy or connection in self._waiting:
            self.leave(connection)
            self._busy.add(connection) if connection.is_answered else self._waiting.setdefault(connection)

    def leave(self, connection: TimeoutProtocol) -> None:
        """It is gone."""
        self._waiting.pop(connection, None)
        self._busy.discard(connection)


def connection_limits() -> ConnectionLimits:
    """Limits within this process's descriptors, whose limit is raised as far as the system allows."""
    return ConnectionLimits(max(16, min(MOST, (raise_descriptors() - _RESERVED) // 2)))


def raise_descriptors() -> int:
    """Raises this process's limit of open descriptors; how many there are then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED if soft == resource.RLIM_INFINITY else soft


#: Seconds within which the head of a request must have come, and for which its body may be silent.
HEAD_SECONDS, SILENT_SECONDS = 10.0, 30.0
#: Seconds after which it is looked whether an answer that lies here unsent was taken meanwhile.
STALLED_SECONDS = 30.0
#: Seconds that any body may take, and bytes a second that it must come with beyond them, on the whole; as fast an answer must be taken.
BODY_SECONDS, SLOWEST = 60.0, 16 * 1024


@dataclass
class _Arriving:
    """A body under way: since when, how much of it is here, and for how long it was we who did not listen. Times in seconds."""

    since: float
    bytes: int = 0
    excused: float = 0.0
    paused_at: float | None = None

    def goes_on(self, now: float, more: int, *, paused: bool) -> bool:
        """Notes ``more`` bytes that came by ``now``; False when the body has taken longer than so many bytes may."""
        if self.paused_at is not None:
            self.excused += now - self.paused_at
        self.paused_at = now if paused else None
        self.bytes += more
        return now - self.since - self.excused <= BODY_SECONDS + self.bytes / SLOWEST


class _StrictBuffer(ReceiveBuffer):
    """h11 also takes lines that end in a bare LF and headers that go on in the next line. A proxy in front may read them otherwise, and
    what is a header to one would be a request to the other (request smuggling): refused, as RFC 9112 (2.2, 5.2, 6.3) allows."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """As h11's."""
        before = bytes(self._data)
        lines = super().maybe_extract_lines()
        if lines is not None:
            head = before[: len(before) - len(self._data)]
            if head.count(b"\n") != head.count(b"\r\n"):
                raise h11.RemoteProtocolError("a line does not end in CR LF")
            if any(line.startswith((b" ", b"\t")) for line in lines):
                raise h11.RemoteProtocolError("a header goes on in the next line")
            _refuse_two_lengths([bytes(line) for line in lines])
        return lines


def _refuse_two_lengths(lines: Sequence[bytes]) -> None:
    """Raises RemoteProtocolError for a head (or the lines behind a body) that says in two ways how long the body is, were it the same."""
    lengths = [value for name, _, value in (line.partition(b":") for line in lines[1:]) if name.strip().lower() == b"content-length"]
    coded = any(line.partition(b":")[0].strip().lower() == b"transfer-encoding" for line in lines[1:])
    if len(lengths) + coded > 1 or any(b"," in length for length in lengths):
        raise h11.RemoteProtocolError("a body has two lengths")
    if coded and lines[0].rstrip().endswith(b"HTTP/1.0"):
        raise h11.RemoteProtocolError("HTTP/1.0 knows no transfer encoding")


class LimitedConfig(uvicorn.Config):
    """A server's configuration, with the limits of its connections."""

    admission: ConnectionLimits | None = None


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 that waits for the rest of a request for a while only, and for no more clients than the server admits."""

    _bound: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _body: _Arriving | None = None
    _admission: ConnectionLimits | None = None

    @property
    def is_answered(self) -> bool:
        """True while a whole request is being worked on."""
        return self.cycle is not None and not self.cycle.response_complete and self.conn.their_state is not h11.SEND_BODY

    def end(self) -> None:
        """Closes at once, whatever is still to be sent."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for from now on."""
        super().connection_made(transport)
        self.conn._receive_buffer = _StrictBuffer()
        self._admission = getattr(self.config, "admission", None)
        if self._admission is not None and not self._admission.enter(self):
            transport.abort()
            return
        self._wait(HEAD_SECONDS)

    def on_response_complete(self) -> None:
        """It waits for the next request, if none has come already."""
        super().on_response_complete()
        self._count()

    def _count(self) -> None:
        if self._admission is not None:
            self._admission.note(self)

    def data_received(self, data: bytes) -> None:
        """What waits now depends on what is still to come."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # a head that drips keeps its place among those that wait
            self._count()
        if self.conn.their_state is h11.SEND_BODY:
            self._body = self._body or _Arriving(self.loop.time())
            self._wait(SILENT_SECONDS if self._body.goes_on(self.loop.time(), len(data), paused=self.flow.read_paused) else 0.0)
            return
        self._body = None
        if self.conn.their_state is not h11.IDLE:
            self._wait(None)
        elif self._bound is None:  # a further head has begun
            self._wait(HEAD_SECONDS)

    def pause_writing(self) -> None:
        """The answer is not taken as fast as it is made: it must go on being taken. A connection that is being answered gives way to
        nobody, so whoever takes nothing would keep it for ever."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """What lay here was taken."""
        self._goes_on()
        super().resume_writing()

    def _watch_taking(self) -> None:
        self._goes_on()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self._check_taking, self.transport.get_write_buffer_size())

    def _check_taking(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < SLOWEST * STALLED_SECONDS:
            self.end()
        else:
            self._watch_taking()

    def _goes_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        if self._admission is not None:
            self._admission.leave(self)
        self._wait(None)
        self._goes_on()
        super().connection_lost(exc)

    def _wait(self, seconds: float | None) -> None:
        if self._bound is not None:
            self._bound.cancel()
        self._bound = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self.conn.their_state is h11.SEND_BODY and self.flow.read_paused:
            self._wait(SILENT_SECONDS)  # it is we who do not listen
        elif not self.transport.is_closing():
            self.transport.close()


@dataclass(frozen=True)
class Tls:
    """A certificate (with the chain below it) and its private key, both in PEM."""

    cert: Path
    key: Path

    def check(self) -> None:
        """Raises InvalidInput when the two cannot be used together, Forbidden when others may read the key."""
        for path, what in ((self.cert, "certificate"), (self.key, "key")):
            if not path.is_file():
                raise InvalidInput(f"there is no {what} file {path}", f"name it with --tls-{what[:4].strip()}")
        mode = stat.S_IMODE(self.key.stat().st_mode)
        if mode & EVERYBODY_ELSE:
            raise Forbidden(f"the key file {self.key} is open to others (mode {mode:04o})", f"close it: chmod 600 {self.key}")
        try:
            # An encrypted key would be asked for on the terminal: an empty passphrase makes it an error.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
        except (ssl.SSLError, OSError) as error:
            raise InvalidInput(
                f"the certificate {self.cert} and the key {self.key} cannot be used together: {_reason(error)}",
                "give a certificate in PEM, and its own private key, without a passphrase",
            ) from error

    def names(self) -> tuple[str, ...]:
        """The hosts that the certificate is for; one for any host of a domain names none."""
        certificate = x509.load_pem_x509_certificates(self.cert.read_bytes())[0]
        try:
            named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        hosts = named.get_values_for_type(x509.DNSName) + [str(address) for address in named.get_values_for_type(x509.IPAddress)]
        return tuple(host for host in hosts if "*" not in host)

    def stamp(self) -> tuple[int, int]:
        """Changes when one of the files is replaced."""
        return self.cert.stat().st_mtime_ns, self.key.stat().st_mtime_ns


def tls_of(cert: Path | None, key: Path | None) -> Tls | None:
    """Both, or nothing. Raises as ``Tls.check``, and InvalidInput when one is given without the other."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InvalidInput("a certificate needs its key, and a key its certificate", "give both: --tls-cert --tls-key")
    found = Tls(cert, key)
    found.check()
    return found


def check_proxies(proxies: Sequence[str]) -> None:
    """Raises InvalidInput for what is neither an address nor a network."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise InvalidInput(
                f"trusted_proxies: {proxy} is neither an address nor a network",
                "write 10.0.0.5 or 10.0.0.0/24; headers of anybody else are not believed",
            ) from None


def is_open(host: str) -> bool:
    """True when others than this machine can reach a server on ``host``."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def is_every_address(host: str) -> bool:
    """True for a host that stands for all addresses of the machine, however it is written (``::0``)."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


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
        raise InvalidInput(f"{port} is not a port", "choose one between 1 and 65535, or 0 for any: --port N")
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
        raise Forbidden(f"{place.parent} is open to others", f"close it: chmod 700 {place.parent}")
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
            code="port_in_use",
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
        return Unavailable(f"port {port} on {host} may not be used", "choose a port above 1023: --port N", code="port_in_use")
    return InvalidInput(f"{host} port {port} is not an address of this machine", "give an address of it: --host 127.0.0.1")
