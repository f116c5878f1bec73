"""Connections that nobody finishes: closed after a while, so that they cannot pile up.

In: bytes of a connection. Out: requests, as uvicorn reads them; or the connection's end. Must not know: what is asked.

uvicorn closes a connection that is idle between two requests, and waits for ever for a request that has begun, or for the first. Here a
request's head must be whole soon, and its body must not fall silent; however long the body is, and however long the answer takes.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds within which the head of a request must have come, and for which its body may be silent.
HEAD_SECONDS, SILENT_SECONDS = 10.0, 30.0


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for the rest of a request for a while only."""

    _bound: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for from now on."""
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """What waits now depends on what is still to come."""
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:
            self._wait(SILENT_SECONDS)
        elif self.conn.their_state is not h11.IDLE:
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
