"""SIGINT and SIGTERM: deferred within critical sections, answered promptly elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tailorbird.system.exit_order import end_before_exit

_ENDING = (signal.SIGINT, signal.SIGTERM)
#: Seconds between two looks for a signal that another thread was handed.
_LOOKS = 0.1
#: Seconds that what was left to itself may go on at the exit.
_LEFT = 5.0


class _Beside(threading.Thread):
    def end(self) -> None:
        """Waits a while at the exit for what was left to itself."""
        self.join(_LEFT)


def beside(work: Callable[[], object]) -> None:
    """Does ``work``, which runs outside of Python for long, in a thread beside this one, so that a signal is answered meanwhile: what ends
    the wait is raised at once, and ``work`` is left to itself. Off the main thread, where signals do not arrive, it is simply done."""
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    failed: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = _Beside(target=do, name="beside", daemon=True)
    end_before_exit(thread)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOKS)
    if failed:
        raise failed[0]


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
