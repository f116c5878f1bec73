"""Leases of this process: how it signs them, and how it keeps one while it works."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def owner(pid: int | None = None) -> str:
    """How a process of this machine, or this one, signs its leases."""
    return f"{platform.node()}:{os.getpid() if pid is None else pid}"


@contextmanager
def heartbeat(seconds: float, beat: Callable[[], bool]) -> Iterator[None]:
    """Calls ``beat`` every so many seconds while the body runs, until it returns False."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(seconds) and beat():
            pass

    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
