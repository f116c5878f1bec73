"""Divides the engine's time among those who wait for it at once.

While n wait, each second gives everyone 1/n of a second. So the shares of all requests add up to the time in which anybody waited, however
many were answered together, and a request costs less where the engine answers many at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class EngineShare:
    """The engine of one gateway. Touched only from the event loop."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._at = now()
        self._waiting = 0
        self._each = 0.0

    def enter(self) -> float:
        """Somebody begins to wait; what is returned is to be given back to ``leave``."""
        self._advance()
        self._waiting += 1
        return self._each

    def leave(self, entered: float) -> float:
        """They have waited: their share of the engine since then, in seconds."""
        self._advance()
        self._waiting -= 1
        return self._each - entered

    def _advance(self) -> None:
        now = self._now()
        if self._waiting:
            self._each += (now - self._at) / self._waiting
        self._at = now
