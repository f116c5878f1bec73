"""Signals that ask the process to end, held back while something is half done.

In: a block. Out: the same block, at whose end a signal that came meanwhile arrives. Must not know: what the block does.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def unbroken() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back until the block is left; a second one, from somebody who means it, arrives at once.

    Off the main thread, where signals do not arrive, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if came:
            _deliver(before[signal.Signals(number)], number, frame)
        came.append(number)

    for number in _ENDING:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _deliver(handler: Callable[[int, FrameType | None], Any] | int | None, number: int, frame: FrameType | None) -> None:
    """As if ``handler`` had never been taken away; where it is no function, it is the system's own way."""
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, handler)
        signal.raise_signal(number)
