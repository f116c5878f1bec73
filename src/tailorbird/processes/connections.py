"""Connection limits, in all and per address, and timeouts for slow clients; ambiguous HTTP framing is refused.

Whoever only holds connections open must not keep others out: for a new one the longest waiting one is closed, of the same address where
that has too many, and one that is being answered never is. Who comes with a whole request at once is hardly ever among the longest waiting.

uvicorn closes a connection that is idle between two requests, and waits for ever for a request that has begun, or for the first, and for
whoever does not take an answer. Here a request's head must be whole soon, its body must neither fall silent nor drip, and an answer must be
taken: each may be long, and the answer may take long to make.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Protocol

import h11
import uvicorn
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from tailorbird.auth import network_of

#: Connections at most, if the system's limit of descriptors allows: each may need a second one, to the engine; and so many for all else.
MOST, _RESERVED = 4096, 256
#: The share of all connections that one address may have.
_SHARE = 4
#: Descriptors that are asked for.
_WANTED = 65_536


class Connection(Protocol):
    """Connection as the limits count it."""

    @property
    def is_answered(self) -> bool:
        """True while a whole request is being worked on: it is not ended for others."""
        ...

    def end(self) -> None:
        """Closes it at once."""
        ...


class ConnectionLimits:
    """The connections of one server; touched only from its event loop. ``most`` in all, ``most_each`` of an address (an IPv6 network of 64
    bits counts as one) that is not among the ``proxies``, behind which there are many."""

    def __init__(self, most: int, most_each: int, proxies: Sequence[str] = ()) -> None:
        self.most, self.most_each = most, most_each
        self._proxies = [ip_network(proxy, strict=False) for proxy in proxies]
        #: In the order in which they came, or last came to rest.
        self._waiting: dict[Connection, str] = {}
        self._busy: dict[Connection, str] = {}
        self._of: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Connections there are."""
        return len(self._waiting) + len(self._busy)

    def enter(self, connection: Connection, address: str) -> bool:
        """Counts a new connection, for which another may be closed. False, and not counted: there is no room."""
        place = "" if self._is_proxy(address) else network_of(address)
        if place and self._of[place] >= self.most_each and not self._close_one(lambda other: other == place):
            return False
        if self.count >= self.most and not self._close_one(lambda _: True):
            return False
        self._waiting[connection] = place
        self._of[place] += 1
        return True

    def busy(self, connection: Connection) -> None:
        """A whole request of it is being answered."""
        if (place := self._waiting.pop(connection, None)) is not None:
            self._busy[connection] = place

    def rest(self, connection: Connection) -> None:
        """It was answered, and waits again: behind those that wait already."""
        place = self._busy.pop(connection, None)
        place = self._waiting.pop(connection, place) if place is None else place
        if place is not None:
            self._waiting[connection] = place

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        place = self._waiting.pop(connection, None)
        place = self._busy.pop(connection, None) if place is None else place
        if place is not None:
            self._of[place] -= 1
            if not self._of[place]:
                del self._of[place]

    def _close_one(self, wanted: Callable[[str], bool]) -> bool:
        for connection, place in self._waiting.items():
            if wanted(place):
                self.leave(connection)
                connection.end()
                return True
        return False

    def _is_proxy(self, address: str) -> bool:
        try:
            return any(ip_address(address) in proxy for proxy in self._proxies)
        except ValueError:
            return True  # no address: a socket of this machine, which only its owner reaches


def connection_limits_for(proxies: Sequence[str]) -> ConnectionLimits:
    """Limits within this process's descriptors, whose limit is raised as far as the system allows."""
    descriptors = raise_descriptors()
    most = max(16, min(MOST, (descriptors - _RESERVED) // 2))
    return ConnectionLimits(most, max(8, most // _SHARE), proxies)


def raise_descriptors() -> int:
    """Raises this process's limit of open descriptors; how many there are then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED if soft == resource.RLIM_INFINITY else soft


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address at the other end; empty where it has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


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
        if self._admission is not None and not self._admission.enter(self, peer_of(transport)):
            transport.abort()
            return
        self._wait(HEAD_SECONDS)

    def on_response_complete(self) -> None:
        """It waits for the next request, if none has come already."""
        super().on_response_complete()
        self._count()

    def _count(self) -> None:
        if self._admission is not None:
            self._admission.busy(self) if self.is_answered else self._admission.rest(self)

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
