"""SIGINT and SIGTERM: deferred within critical sections, answered promptly elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tailorbird.system.exit_order import LAST_STEP, end_before_exit

_ENDING = (signal.SIGINT, signal.SIGTERM)
#: Seconds between two looks for a signal that another thread was handed.
_LOOKS = 0.1


class _Beside(threading.Thread):
    """Does ``work``. ``over`` says when: after an interrupt of ``join``, Python 3.11 takes a thread for ended that is not."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name="beside", daemon=True)
        self._work = work
        self.over = threading.Event()
        self.failed: list[BaseException] = []

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            self.failed.append(error)
        finally:
            self.over.set()

    def end(self) -> None:
        """Waits a while at the exit for what was left to itself."""
        self.over.wait(LAST_STEP)


def beside(work: Callable[[], object]) -> None:
    """Does ``work``, which runs outside of Python for long, in a thread beside this one, so that a signal is answered meanwhile: what ends
    the wait is raised at once, and ``work`` is left to itself. Off the main thread, where signals do not arrive, it is simply done."""
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    thread = _Beside(work)
    end_before_exit(thread)
    thread.start()
    while not thread.over.wait(_LOOKS):
        pass
    if thread.failed:
        raise thread.failed[0]


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
