"""How a process keeps its leases while it works."""

from __future__ import annotations

import threading

from tailorbird.usecases.leases import heartbeat


def test_a_beat_that_fails_is_followed_by_the_next() -> None:
    beats, enough = list[int](), threading.Event()

    def beat() -> bool:
        beats.append(1)
        if len(beats) < 3:
            raise KeyError("a customer's words")
        enough.set()
        return False

    with heartbeat(0.001, beat):
        assert enough.wait(30)
    assert len(beats) == 3
