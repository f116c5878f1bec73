"""Whether the thread that computes still gets on: a step that takes far longer than its size explains has hung.

In: when steps begin and end, and how many tokens they have. Out: whether one is overdue. Must not know: what is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that a step may take while none has ended yet, and that any may take.
_FIRST, _ANY = 300.0, 30.0
#: How many times the slowest pace so far a step may take: what is computed with more context, or beside a busy machine, is slower.
_SLOWER = 20.0


class Pulse:
    """The steps of one thread. ``overdue`` may be asked by any other, and waits for nothing."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._under_way: tuple[float, int] | None = None
        self._slowest: float | None = None

    def begin(self, tokens: int) -> None:
        """A step of so many tokens begins."""
        self._under_way = (self._now(), max(1, tokens))

    def end(self) -> None:
        """It has ended, well or not."""
        if self._under_way is not None:
            began, tokens = self._under_way
            self._slowest = max(self._slowest or 0.0, (self._now() - began) / tokens)
            self._under_way = None

    @property
    def overdue(self) -> bool:
        """True when the step under way takes longer than any should."""
        under_way, slowest = self._under_way, self._slowest
        if under_way is None:
            return False
        began, tokens = under_way
        return self._now() - began > (_FIRST if slowest is None else max(_ANY, _SLOWER * slowest * tokens))
