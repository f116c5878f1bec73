"""Connections that nobody finishes: closed after a while, so that they cannot pile up.

In: bytes of a connection. Out: requests, as uvicorn reads them; or the connection's end. Must not know: what is asked.

uvicorn closes a connection that is idle between two requests, and waits for ever for a request that has begun, or for the first. Here a
request's head must be whole soon, and its body must neither fall silent nor drip: it may be long, and the answer may take long.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

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


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for the rest of a request for a while only."""

    _bound: asyncio.TimerHandle | None = None
    _body: _Arriving | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for from now on."""
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """What waits now depends on what is still to come."""
        super().data_received(data)
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
