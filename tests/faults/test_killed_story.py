"""SIGKILL at every boundary and at moments in between: the story still ends with the same release, and nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.faults import Desk, Ending, ending_of
from support.moments import BOUNDARIES, Kill
from support.story_process import Call

KILLED = -signal.SIGKILL

Command = Callable[[Kill | None], Call]


def command_of(desk: Desk, verb: str) -> Command:
    """The command that does the story's steps."""
    if verb == "worker":
        desk.submit()
        return desk.worker
    return desk.adapt


def die(desk: Desk, command: Command, kill: Kill) -> bool:
    """Runs the command until it dies of ``kill``; False when the story ends before. A worker leaves a dead one's run alone at first."""
    while (status := (call := command(kill)).run()) == 0:
        if desk.is_over():
            return False
    assert status == KILLED, call.said
    return True


def finish(desk: Desk, command: Command) -> None:
    """The same command without a kill, until the story has ended."""
    for _ in range(100):
        call = command(None)
        assert call.run() == 0, call.said
        if desk.is_over():
            return
    raise AssertionError("the story does not end")


@pytest.mark.parametrize("verb", ["adapt", pytest.param("worker", marks=pytest.mark.slow)])
def test_a_story_killed_at_every_boundary(desk: Desk, undisturbed: Ending, verb: str) -> None:
    """Before, inside and after the transaction that ends each step: the first two lose the step, the third must not."""
    command = command_of(desk, verb)
    for step in undisturbed.steps:
        for boundary in BOUNDARIES:
            assert die(desk, command, Kill(boundary + step)), f"{boundary}{step} was never passed"
    finish(desk, command)
    assert ending_of(desk) == undisturbed


def test_a_story_killed_while_it_stores_things(desk: Desk, undisturbed: Ending) -> None:
    """Between writing a blob and renaming it, and right after; each process gets further than the one before."""
    kills = [Kill(moment, nth) for nth in (1, 2, 3, 5, 8, 13, 21) for moment in ("a blob is written", "a blob is in place")]
    died = [die(desk, desk.adapt, kill) for kill in kills]
    assert sum(died) >= 6
    assert not died[-1]
    assert ending_of(desk) == undisturbed


@pytest.mark.parametrize("verb", ["adapt", "worker"])
def test_a_story_killed_at_random_times(desk: Desk, undisturbed: Ending, verb: str) -> None:
    draw = random.Random(verb)
    command = command_of(desk, verb)
    for _ in range(10):
        die(desk, command, Kill(after=draw.uniform(0.02, 0.5)))
    finish(desk, command)
    assert ending_of(desk) == undisturbed


def test_two_workers_one_of_which_is_killed_again_and_again(desk: Desk, undisturbed: Ending) -> None:
    desk.submit()
    lasting = desk.call("worker")
    survivor = lasting.start()
    draw = random.Random(2)
    while not desk.is_over():
        assert desk.worker(Kill(after=draw.uniform(0.02, 0.3))).run() in (0, KILLED)
    survivor.terminate()
    survivor.join(30)
    assert survivor.exitcode == 0, lasting.said
    assert ending_of(desk) == undisturbed


def test_a_worker_that_froze_beyond_its_lease_commits_nothing(desk: Desk, undisturbed: Ending) -> None:
    """It wakes up with a finished result in its hands, after another has taken the step over, done it, and died."""
    desk.submit()
    frozen = desk.worker(Kill("before the commit of measure lora", signal=signal.SIGSTOP))
    process = frozen.start()
    assert process.pid is not None
    wait_until_stopped(process.pid)
    assert die(desk, desk.worker, Kill("after the commit of measure lora"))
    os.kill(process.pid, signal.SIGCONT)
    process.join(30)
    assert process.exitcode == 0
    assert "is no longer held" in frozen.said
    finish(desk, desk.worker)
    assert ending_of(desk) == undisturbed


def wait_until_stopped(pid: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while "\nState:\tT" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("most", [pytest.param(6, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.jobs)])
def test_single_kills_at_transactions_and_blobs(template: Desk, undisturbed: Ending, tmp_path: Path, most: int) -> None:
    """One story for each of many moments that an undisturbed one passes (``make jobs``: for each of all): transactions, written and
    committed, and blobs."""
    seen = tmp_path / "moments"
    assert template.copy(tmp_path / "first").adapt(moments=seen).run() == 0
    names = [name for name in seen.read_text(encoding="utf-8").splitlines() if name.startswith(("a blob", "a transaction"))]
    points = [(name, names[: at + 1].count(name)) for at, name in enumerate(names)]
    assert len(points) > 60
    for number, (name, nth) in enumerate(random.Random(3).sample(points, min(most, len(points)))):
        desk = template.copy(tmp_path / f"story-{number}")
        assert die(desk, desk.adapt, Kill(name, nth)), f"{name} {nth} was never passed"
        finish(desk, desk.adapt)
        assert ending_of(desk) == undisturbed, f"{name} {nth}"
