"""Leases of this process: how it signs them, and how it keeps one while it works."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailorbird.system.background_loop import Rounds


def owner(pid: int | None = None) -> str:
    """How a process of this machine, or this one, signs its leases."""
    return f"{platform.node()}:{os.getpid() if pid is None else pid}"


@contextmanager
def heartbeat(seconds: float, beat: Callable[[], bool]) -> Iterator[None]:
    """Calls ``beat`` every so many seconds while the body runs, until it returns False; one that fails is followed by the next."""
    ended, rounds = threading.Event(), Rounds("heartbeat")

    def go_on() -> None:
        while not ended.wait(seconds):
            try:
                if not beat():
                    return
            except Exception as error:  # noqa: BLE001 - a lease that is kept no more costs the work of hours
                rounds.failed(error)
            else:
                rounds.succeeded()

    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
