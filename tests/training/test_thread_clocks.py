"""Threads sleep at barriers beside other work and spin without it, as the processor time of a thread that waits tells."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from support.training_samples import MakeJob
from tailorbird.system.threads import Barriers, ClockReading
from tailorbird.training import loop, open_trainer
from tailorbird.training.devices import thread_pool

CPU = torch.device("cpu")
QUIET, LOADED = ClockReading(1.0, 1.0, 0.0, 2), ClockReading(1.0, 0.5, 0.8, 2)

#: Processor seconds that 40 waits of 10 ms take: of threads as OpenMP starts them, asleep, spinning again.
WAITS = """
import time, torch
from tailorbird.system.threads import Barriers
from tailorbird.training.devices import thread_pool
torch.set_num_threads(2)
numbers = torch.zeros(2**20)

def waits():
    numbers.add_(1)
    started = time.process_time()
    for _ in range(40):
        numbers.add_(1)
        time.sleep(0.01)
    return time.process_time() - started

barriers = Barriers(thread_pool(torch.device("cpu")))
first = waits()
barriers.sleep()
asleep = waits()
barriers.spin()
print(first, asleep, waits())
"""


def test_threads_that_only_exist_make_the_others_sleep() -> None:
    """As torch brings it on Linux. Two cores: with more, two threads and those that exist would still be fewer."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    }
    said = subprocess.run([sys.executable, "-c", WAITS], env=environment, capture_output=True, text=True, check=True).stdout
    first, asleep, again = map(float, said.split())
    assert asleep < 0.5 * min(first, again)


def idle() -> int:
    return sum(thread.name == "barriers" for thread in threading.enumerate())


def test_they_sleep_from_the_first_reading_beside_other_work_and_spin_after_three_without() -> None:
    torch.set_num_threads(2)
    barriers = Barriers(thread_pool(CPU))
    seen = []
    for reading in (QUIET, LOADED, QUIET, QUIET, LOADED, QUIET, QUIET, QUIET, QUIET):
        barriers.heed(reading)
        seen.append(barriers.asleep)
    assert seen == [False, True, True, True, True, True, True, False, False]
    assert idle() == 0


def test_one_thread_waits_for_none() -> None:
    barriers = Barriers(thread_pool(CPU))
    barriers.heed(LOADED)
    assert not barriers.asleep


def test_a_training_looks_before_each_pass_and_leaves_no_thread_behind(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def loaded(self: Barriers) -> None:
        self.heed(LOADED)
        seen.append(idle())

    monkeypatch.setattr(loop.Barriers, "look", loaded)
    trained = open_trainer().train(make_job(threads=2, epochs=1), lambda _: None)
    assert min(seen) > 0
    assert len(seen) > trained.report.steps
    assert idle() == 0
