"""Threads that compute end before the interpreter does.

A thread that comes back from torch into an interpreter that is gone is ended by it, through frames of C++ that allow no such end: the
process aborts (exit status 134, "terminate called without an active exception"), whatever status it was to end with.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Protocol

#: Seconds that a last step may take at the exit.
LAST_STEP = 20.0


class Computing(Protocol):
    """Has a thread that computes."""

    def end(self) -> None:
        """Takes no more work, and waits until what is computed now is over."""
        ...


_computing: weakref.WeakSet[Computing] = weakref.WeakSet()


def end_before_exit(one: Computing) -> None:
    """``one`` is ended when the interpreter begins to end, if it lives so long."""
    _computing.add(one)


@atexit.register
def _end_all() -> None:
    for one in list(_computing):
        one.end()
