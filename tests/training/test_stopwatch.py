"""What work takes on a quiet machine, read on one that is not: by a clock written here, and beside a process that wants the core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.clocks import replace_clock
from tailorbird.system import threads as readings
from tailorbird.system.threads import ClockReading, read
from tailorbird.training import timing as step_timing
from tailorbird.training.devices import thread_pool
from tailorbird.training.timing import Stopwatch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def told(monkeypatch: pytest.MonkeyPatch, *readings: ClockReading) -> list[int]:
    """Readings that are given out one after the other; how often work was done."""
    left, done = iter(readings), [0]

    def given(work: object, _pool: object) -> ClockReading:
        assert callable(work)
        work()
        done[0] += 1
        return next(left)

    monkeypatch.setattr(step_timing, "read", given)
    return done


def nothing() -> None:
    """Work that is timed by a clock of our own."""


def test_on_a_quiet_machine_seconds_that_pass_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, ClockReading(2.0, 1.9, 0.0, 2), ClockReading(1.8, 1.7, 0.1, 2))
    watch = Stopwatch(CPU)
    assert watch.least(nothing) == 1.8
    assert not watch.loaded
    assert watch.efficiency == 0.0


def test_the_efficiency_is_learned_on_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, ClockReading(2.2, 1.6, 0.0, 2), ClockReading(2.2, 1.6, 2.0, 2))
    watch = Stopwatch(CPU)
    watch.learn(nothing, 2.0)
    assert watch.efficiency == pytest.approx(0.8)
    watch.learn(nothing, 2.0)
    assert watch.efficiency == 0.0, "a reading beside other work teaches nothing"


def test_a_reading_beside_other_work_is_passed_over_for_a_quiet_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, ClockReading(4.0, 1.7, 2.0, 2), ClockReading(1.9, 1.8, 0.0, 2))
    watch = Stopwatch(CPU)
    assert (watch.least(nothing), watch.loaded) == (1.9, False)


def test_beside_other_work_processor_time_over_the_efficiency_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, ClockReading(9.0, 1.8, 7.0, 2), ClockReading(8.0, 1.6, 7.0, 2))
    watch = Stopwatch(CPU, efficiency=0.8)
    assert watch.least(nothing) == pytest.approx(2.0)
    assert (watch.loaded, watch.efficiency) == (True, 0.0)


def test_what_the_disk_does_counts_without_the_wait_for_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = iter([10.0, 14.0])
    monkeypatch.setattr(step_timing, "ready_here", lambda: next(ready))
    told(monkeypatch, ClockReading(6.0, 1.0, 4.0, 2))
    watch = Stopwatch(CPU)
    assert (watch.once(nothing), watch.loaded) == (2.0, True)


def test_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, ClockReading(2.0, 0.1, 5.0, 2), ClockReading(1.5, 0.1, 5.0, 2))
    watch = Stopwatch(GPU)
    assert (watch.least(nothing), watch.loaded, watch.efficiency) == (1.5, False, 0.0)


def test_a_thread_that_ends_takes_nothing_off_the_wait_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose history would else hide that others wanted the cores."""
    monkeypatch.setattr(readings, "_TASKS", tmp_path)

    def task(name: str, seconds: int) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "schedstat").write_text(f"7 {seconds}000000000 9\n")

    ready = readings._Ready()
    task("1", 4)
    task("2", 50)
    assert ready.seconds() == 54.0
    task("1", 7)
    shutil.rmtree(tmp_path / "2")
    assert ready.seconds() == 57.0
    task("2", 1)
    assert ready.seconds() == 58.0
    task("1", 2)
    assert ready.seconds() == 60.0, "the number of a thread that has ended was given to another"


def test_threads_that_wake_often_are_not_kept_from_cores_that_nobody_takes() -> None:
    """Each wake stands ready for a moment: a process alone would else be taken for one beside others."""
    cores = readings.usable_cores()
    assert ClockReading(2.0, 1.9, 0.8, 2, others=0.9 * cores).loaded
    assert not ClockReading(2.0, 1.9, 0.8, 2, others=0.05 * cores).loaded
    assert not ClockReading(2.0, 1.9, 0.1, 2, others=0.9 * cores).loaded, "others that take what nobody wanted"
    short = 0.1 / cores
    assert ClockReading(short, short, short, 2, others=0.0).loaded, "too short to tell by ticks of a hundredth of a second"


def test_what_others_take_is_what_was_busy_less_what_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, own = tmp_path / "stat", iter([10.0, 11.0])
    monkeypatch.setattr(readings, "_CORES", counts)
    replace_clock(monkeypatch, readings, process_time=lambda: next(own))
    monkeypatch.setattr(readings.os, "sched_getaffinity", lambda _: {1})
    tick = os.sysconf("SC_CLK_TCK")

    def work() -> None:
        counts.write_text(f"cpu 9 9 9 9 9 9 9 9\ncpu0 {9 * tick} 0 0 0 0 0 0 0\ncpu1 {5 * tick} 0 {tick} {99 * tick} 0 0 {tick} {tick}\n")

    counts.write_text(f"cpu 9 9 9 9 9 9 9 9\ncpu0 {tick} 0 0 0 0 0 0 0\ncpu1 {3 * tick} 0 {tick} 0 0 0 0 0\n")
    assert read(work, thread_pool()).others == pytest.approx(3.0), "four seconds of the one core that is ours to use, one of them our own"


@pytest.fixture
def crowded_core() -> Iterator[None]:
    """This process on one core, beside another that wants all of it."""
    if not hasattr(os, "sched_setaffinity") or not readings._TASKS.is_dir():
        pytest.fail("these tests are made for Linux")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, before)


def compute() -> None:
    """About half a second of one core."""
    until = time.thread_time() + 0.5
    while time.thread_time() < until:
        pass


@pytest.mark.usefixtures("crowded_core")
def test_a_process_that_wants_the_core_is_noticed_and_not_counted() -> None:
    found = read(compute, thread_pool())
    assert found.loaded
    assert found.passed > 1.2 * found.thread
    watch = Stopwatch(CPU, efficiency=1.0)
    assert watch.least(compute) == pytest.approx(0.5, rel=0.1)
    assert watch.loaded
