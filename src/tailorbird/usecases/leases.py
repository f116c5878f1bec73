"""Leases of this process: how it signs them, and how it keeps one while it works."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from tailorbird.domain.run import LONGEST_LEASE
from tailorbird.system.background_loop import Rounds

#: Seconds without a renewal after which a lease that was renewed before is not kept: those of a step's lease, which is renewed every four.
_KEPT = 20.0
#: Seconds within which a lease that has run out, by this machine's clock, is renewed where its holder lives.
_FIRST = 10.0


def owner(pid: int | None = None) -> str:
    """How a process of this machine, or this one, signs its leases."""
    return f"{platform.node()}:{os.getpid() if pid is None else pid}"


class LeaseWatch:
    """Whether somebody else keeps a lease alive, as one who looks again and again can tell whatever the clocks of the two say.

    Once the lease was seen to be renewed, this process's own counting of seconds decides; until then the clock does, but a lease that has
    run out by it is given time to be renewed, and one that lasts for ever is not believed. ``count`` counts seconds.
    """

    def __init__(self, count: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._until: datetime | None = None
        self._seen_at = 0.0
        self._renewed = False

    def is_kept(self, until: datetime | None, now: datetime) -> bool:
        """Whether the lease that lasts until ``until`` (None: nobody has one) is kept alive, by what was seen so far."""
        if until is None:
            self._until, self._renewed = None, False
            return False
        if until != self._until:
            self._renewed = self._until is not None
            self._until, self._seen_at = until, self._count()
        unchanged = self._count() - self._seen_at
        if self._renewed:
            return unchanged < _KEPT
        return unchanged < (LONGEST_LEASE.total_seconds() if until > now else _FIRST)


@contextmanager
def heartbeat(seconds: float, beat: Callable[[], bool]) -> Iterator[None]:
    """Calls ``beat`` every so many seconds while the body runs, until it returns False; one that fails is followed by the next."""
    ended, rounds = threading.Event(), Rounds("heartbeat")

    def go_on() -> None:
        while not ended.wait(seconds):
            try:
                if not beat():
                    return
            except Exception as error:  # noqa: BLE001 - a lease that is kept no more costs the work of hours
                rounds.failed(error)
            else:
                rounds.succeeded()

    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
