"""Watch over the server: an answer that does not come in time is given up, so that nobody waits without end.

A primary whose synchronous standby is dead commits and then waits for it, and a server that is frozen says nothing at all. PostgreSQL has
no limit for either: ``statement_timeout`` ends where the commit begins.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection

from tailorbird.domain.errors import Unavailable

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger("tailorbird.ledger")

#: Seconds between two looks while something is watched.
_LOOK_EVERY = 0.5
#: Seconds that the server is given to cancel; then the connection is cut.
_CANCEL = 2.0


@dataclass(eq=False)
class _Awaited:
    """An answer that is waited for. ``given_up``: the server was told to cancel, and later the connection was cut."""

    connection: psycopg.Connection
    until: float
    given_up: bool = False


class ServerWatch:
    """Gives answers up after ``seconds``, from a thread of its own that runs once there is something to watch."""

    def __init__(self, seconds: float, place: str) -> None:
        self._seconds = seconds
        self._place = place
        self._awaited: set[_Awaited] = set()
        self._some = threading.Event()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Connection, more: float = 0.0) -> Iterator[None]:
        """Watches over the block, which talks to the server by ``connection``, and waits for nothing else; ``more``: seconds that it is
        given besides.

        Raises Unavailable when the server gave no answer in time. What was committed may be there all the same, and be lost with its
        primary. The connection is of no more use.
        """
        with self.over_driver(cast("psycopg.Connection", connection.connection.driver_connection), more) as awaited:
            try:
                yield
            finally:
                self._end(awaited)
                if awaited.given_up:
                    connection.invalidate()  # a cancellation may still be on its way to it

    @contextmanager
    def over_driver(self, connection: psycopg.Connection, more: float = 0.0) -> Iterator[_Awaited]:
        """The same for a connection of the driver."""
        awaited = _Awaited(connection, time.monotonic() + self._seconds + more)
        self._awaited.add(awaited)
        if not self._some.is_set():
            self._begin()
        try:
            yield awaited
        except Exception as error:
            if awaited.given_up:
                raise self._unanswered() from error
            raise
        finally:
            self._end(awaited)
        if awaited.given_up:
            raise self._unanswered()

    def _end(self, awaited: _Awaited) -> None:
        """It is not given up from here on."""
        with self._changing:
            self._awaited.discard(awaited)

    def _begin(self) -> None:
        with self._changing:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="server-watch", daemon=True)
                self._thread.start()
        self._some.set()

    def _look(self) -> None:
        while True:
            self._some.wait()
            time.sleep(_LOOK_EVERY)
            awaited = self._awaited.copy()
            if not awaited:
                self._some.clear()
                if self._awaited:  # added between the copy and the clearing
                    self._some.set()
            for each in awaited:
                if time.monotonic() >= each.until:
                    self._give_up(each)

    def _give_up(self, awaited: _Awaited) -> None:
        with self._changing:
            if awaited not in self._awaited:
                return
            is_first, awaited.given_up = not awaited.given_up, True
            if time.monotonic() >= awaited.until + 2 * _CANCEL:
                _cut(awaited.connection)
        if is_first:
            _log.error("%s gave no answer for %g s", self._place, self._seconds)
            # Another thread: a server that does not answer would keep this one from the next.
            threading.Thread(target=_cancel, args=(awaited.connection,), name="cancel", daemon=True).start()

    def _unanswered(self) -> Unavailable:
        return Unavailable(
            f"{self._place} gave no answer for {self._seconds:g} s",
            "look whether the server is alive and its synchronous standbys are there: SELECT * FROM pg_stat_replication",
            code="database_unanswered",
        )


def _cancel(connection: psycopg.Connection) -> None:
    with suppress(Exception):  # the connection is cut where this does not help
        connection.cancel_safe(timeout=_CANCEL)


def _cut(connection: psycopg.Connection) -> None:
    """Ends the connection under who waits for it, who is told that it was lost."""
    with suppress(Exception), socket.socket(fileno=os.dup(connection.pgconn.socket)) as same:  # it may be closed by now
        same.shutdown(socket.SHUT_RDWR)
