"""Whether an alias has moved, cheap enough to be asked many times a second.

In: the ledger, the number of moves that is known. Out: yes or no. The database is asked only after its pulse has changed; one that has
none is asked now and then. Must not know: what moved, who follows.
"""

from __future__ import annotations

import asyncio
import time

from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.ledger import Ledger

#: Seconds at least between two questions: under traffic every row changes the pulse. Where there is none, each is a way over the network.
_ASK_EVERY, _ASK_A_SERVER_EVERY = 0.04, 0.1


class Glance:
    """At one ledger, by one watcher."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pulse: object | None = None
        self._asked_at = float("-inf")

    def is_due(self) -> bool:
        """True when the database is to be asked: its pulse has changed, or it has none. Takes no time worth telling."""
        return self._is_due(self._ledger.pulse(), time.monotonic())

    def is_behind(self) -> bool:
        """True while something was written that no question has looked at."""
        pulse = self._ledger.pulse()
        return bool(pulse) and pulse != self._pulse

    def _is_due(self, pulse: object | None, now: float) -> bool:
        asked_lately = now - self._asked_at < (_ASK_EVERY if pulse else _ASK_A_SERVER_EVERY)
        return not asked_lately and not (pulse and pulse == self._pulse)

    async def sees_a_move(self, since: int | None) -> bool:
        """True when the number of moves is no longer ``since``. A record that cannot be read shows nothing."""
        pulse, now = self._ledger.pulse(), time.monotonic()
        if not self._is_due(pulse, now):
            return False
        # Read before the number: a commit in between changes it once more.
        self._pulse, self._asked_at = pulse, now
        try:
            return await asyncio.to_thread(self._moves) != since
        except TailorbirdError:
            return False

    def _moves(self) -> int:
        with self._ledger.system(write=False) as system:
            return system.tenants.aliases_moved()
