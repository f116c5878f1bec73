"""A thread that stands back computes behind the others; the threads that started it do not."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from tailorbird.system.threads import stand_back


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_the_thread_and_what_it_starts_stand_back() -> None:
    before, seen = niceness(), list[int]()

    def stand() -> None:
        stand_back()
        seen.append(niceness())
        started = threading.Thread(target=lambda: seen.append(niceness()))
        started.start()
        started.join()

    thread = threading.Thread(target=stand)
    thread.start()
    thread.join()
    assert seen == [min(19, before + 10)] * 2
    assert niceness() == before


def test_where_it_is_not_allowed_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr("tailorbird.system.threads.os.setpriority", refuse)
    stand_back()
