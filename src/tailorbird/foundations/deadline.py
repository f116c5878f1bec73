"""A bound on the time of Python code that somebody else wrote: a template's loops, for one.

In: seconds, a block. Out: the block's end, or Overdue raised within it. Must not know: what the block does.

The exception is raised between two steps of the interpreter, so what computes within one (a library in C) is not ended before it returns.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Seconds after which a block that is still there is told again.
_AGAIN = 1.0


class Overdue(Exception):
    """The block took longer than it may."""


@dataclass(eq=False)
class _Watched:
    thread: int
    at: float


_changed = threading.Condition()
_watched: set[_Watched] = set()
_watching: list[threading.Thread] = []


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises Overdue within the block when it takes longer than ``seconds``. Safe in any thread."""
    mine = _Watched(threading.get_ident(), time.monotonic() + seconds)
    with _changed:
        _watched.add(mine)
        if not _watching or not _watching[0].is_alive():
            _watching[:] = [threading.Thread(target=_watch, name="deadlines", daemon=True)]
            _watching[0].start()
        _changed.notify()
    try:
        yield
    finally:
        _leave(mine)


def _leave(mine: _Watched) -> None:
    """It is told nothing any more, even if it was about to be."""
    while mine in _watched:
        try:
            with _changed:
                _watched.discard(mine)
                _raise_in(mine.thread, None)
        except Overdue:
            continue


def _watch() -> None:
    with _changed:
        while True:
            now = time.monotonic()
            for each in list(_watched):
                if each.at <= now:
                    each.at = now + _AGAIN
                    _raise_in(each.thread, Overdue)
            soonest = min((each.at for each in _watched), default=None)
            if soonest is None and not _changed.wait(60.0) and not _watched:
                _watching.clear()
                return
            if soonest is not None:
                _changed.wait(max(0.0, soonest - now))


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raises ``error`` in a thread, soon; None: what was to be raised there is not."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error))
