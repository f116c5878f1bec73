"""Connections that nobody finishes: closed after a while, so that they cannot pile up; and requests that two readers would read apart.

uvicorn closes a connection that is idle between two requests, and waits for ever for a request that has begun, or for the first. Here a
request's head must be whole soon, and its body must neither fall silent nor drip: it may be long, and the answer may take long.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11
import uvicorn
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from tailorbird.processes.connection_limits import ConnectionLimits, peer_of

#: Seconds within which the head of a request must have come, and for which its body may be silent.
HEAD_SECONDS, SILENT_SECONDS = 10.0, 30.0
#: Seconds that any body may take, and bytes a second that it must come with beyond them, on the whole.
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
            names = [bytes(line).partition(b":")[0].strip().lower() for line in lines[1:]]
            if b"content-length" in names and b"transfer-encoding" in names:
                raise h11.RemoteProtocolError("a body has two lengths")
        return lines


class LimitedConfig(uvicorn.Config):
    """A server's configuration, with the limits of its connections."""

    admission: ConnectionLimits | None = None


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 that waits for the rest of a request for a while only, and for no more clients than the server admits."""

    _bound: asyncio.TimerHandle | None = None
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        if self._admission is not None:
            self._admission.leave(self)
        self._wait(None)
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
