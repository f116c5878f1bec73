"""Time limit for Python code from untrusted authors, such as loops in a template.

The exception is raised between two steps of the interpreter, so what computes within one (a library in C) is not ended before it returns.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Seconds between two looks, and after which a block that is still there is told again. Whoever enters wakes nobody: that would cost more
#: than most blocks take.
_LOOK_EVERY, _AGAIN = 0.1, 1.0
#: Looks at nothing after which the thread that looks ends.
_PATIENCE = 600


class TimeLimitExceeded(Exception):
    """The block took longer than it may."""


@dataclass(eq=False)
class _Watched:
    thread: int
    at: float
    told: bool = False


_book = threading.Lock()
_watched: set[_Watched] = set()
_watching: list[threading.Thread] = []


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimitExceeded within the block when it takes longer than ``seconds``. Safe in any thread."""
    mine = _Watched(threading.get_ident(), time.monotonic() + seconds)
    with _book:
        _watched.add(mine)
        if not _watching or not _watching[0].is_alive():
            _watching[:] = [threading.Thread(target=_watch, name="deadlines", daemon=True)]
            _watching[0].start()
    try:
        yield
    finally:
        _leave(mine)


def _leave(mine: _Watched) -> None:
    """It is told nothing any more, even if it was about to be."""
    while mine in _watched:
        try:
            with _book:
                _watched.discard(mine)
                if mine.told:
                    _raise_in(mine.thread, None)
        except TimeLimitExceeded:
            continue


def _watch() -> None:
    idle = 0
    while True:
        time.sleep(_LOOK_EVERY)
        with _book:
            now = time.monotonic()
            for each in _watched:
                if each.at <= now:
                    each.at, each.told = now + _AGAIN, True
                    _raise_in(each.thread, TimeLimitExceeded)
            idle = 0 if _watched else idle + 1
            if idle > _PATIENCE:
                _watching.clear()
                return


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raises ``error`` in a thread, soon; None: what was to be raised there is not."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error))
