"""The watch over barriers: one for a process, which heeds what it reads, and none where it is said how threads wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from support.processes import wait_until
from tailorbird import inference
from tailorbird.system import threads
from tailorbird.system.threads import Barriers, ClockReading, ThreadPool, watch_barriers
from tailorbird.training import open_trainer

QUIET, LOADED = ClockReading(1.0, 1.0, 0.0, 2), ClockReading(1.0, 0.5, 0.8, 2)
POOL = ThreadPool(lambda: 2, lambda: None)


class Ended(RuntimeError):
    """Ends a watch, as the system does that starts no thread any more."""


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ClockReading]]:
    """What the watches of this test read, one after the other, and then the last again; the process has none before."""
    monkeypatch.setattr(threads, "_begun", threading.Lock())
    monkeypatch.setattr(threads, "_EVERY", 0.001)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    left, ended = [QUIET], threading.Event()

    def look(self: Barriers) -> None:
        if ended.is_set():
            self.spin()
            raise Ended
        self.heed(left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(Barriers, "look", look)
    before = named("barrier watch")
    yield left
    ended.set()
    wait_until(lambda: named("barrier watch") == before and not named("barriers"))


def named(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_threads_sleep_while_others_want_the_cores_and_spin_again(readings: list[ClockReading]) -> None:
    watch_barriers(POOL)
    assert not named("barriers")
    readings[:] = [LOADED]
    wait_until(lambda: named("barriers") > 0)
    readings[:] = [QUIET]
    wait_until(lambda: not named("barriers"))


def test_a_process_has_one_watch_whoever_asks(readings: list[ClockReading]) -> None:
    before = named("barrier watch")
    for _ in range(3):
        watch_barriers(POOL)
    assert named("barrier watch") == before + 1


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_was_said_about_waiting_stays(readings: list[ClockReading], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = named("barrier watch")
    monkeypatch.setenv(name, "1000")
    watch_barriers(POOL)
    assert named("barrier watch") == before


def test_one_thread_and_a_gpu_need_none(readings: list[ClockReading]) -> None:
    before = named("barrier watch")
    watch_barriers(ThreadPool(lambda: 1, lambda: None))
    watch_barriers(POOL._replace(waits=True))
    assert named("barrier watch") == before
    watch_barriers(POOL)
    assert named("barrier watch") == before + 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes here")
@pytest.mark.parametrize("opened", [inference.open_encoder, inference.open_engine, open_trainer])
def test_who_computes_is_watched(readings: list[ClockReading], monkeypatch: pytest.MonkeyPatch, opened: Callable[[], object]) -> None:
    monkeypatch.setattr(inference, "TorchEngine", lambda *_, **__: None)
    before = named("barrier watch")
    opened()
    assert named("barrier watch") == before, "with one thread there is nothing to wait for"
    torch.set_num_threads(2)
    opened()
    assert named("barrier watch") == before + 1
