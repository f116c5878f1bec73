"""Progress as it is told: lines, and on a terminal one that moves below them, no silence on either, and what an interruption leaves."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from tailorbird.domain.run import Outlook, TrainingProgress
from tailorbird.sdk import progress as telling
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.usecases import StepBegun


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(step: int, steps: int = 40) -> TrainingProgress:
    return TrainingProgress(
        step=step,
        steps=steps,
        loss=0.5,
        held_out_loss=0.6,
        learning_rate=1e-4,
        tokens=1,
        tokens_per_second=300,
        memory_gb=2.5,
        seconds=3.0 * step,
    )


def begun(name: str = "measure lora r16", done: int = 3, step: float | None = 60.0, climb: float | None = 600.0) -> StepBegun:
    return StepBegun("run0001", name, done, Outlook(step=step, climb=climb))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def narrator(out: io.StringIO, clock: Clock) -> ProgressDisplay:
    return ProgressDisplay(Console(file=out, width=80), clock=clock)


def test_a_step_is_told_with_what_the_plan_expects(narrator: ProgressDisplay, out: io.StringIO) -> None:
    narrator.step(begun())
    narrator.tell("step measure lora r16")
    narrator.tell("loading")
    assert out.getvalue() == (
        "[00:00] step measure lora r16 (3 done, about 1 min 00 s, at most 10 min 00 s for the rest of the climb)\n[00:00] loading\n"
    )


def test_counts_are_told_now_and_then_with_the_time_left(narrator: ProgressDisplay, out: io.StringIO, clock: Clock) -> None:
    narrator.step(begun())
    narrator.tell("step")
    for done in range(0, 101, 10):
        narrator.count(done, 100)
        clock.now += 2.0
    told = [text.split("]   ")[1] for text in out.getvalue().splitlines() if "items" in text]
    assert told == [
        "0/100 items, 1 min 00 s left",
        "30/100 items, 14.0 s left",
        "60/100 items, 8.0 s left",
        "90/100 items, 2.0 s left",
        "100/100 items",
    ]


def test_what_comes_before_the_first_items_is_no_pace(narrator: ProgressDisplay, clock: Clock) -> None:
    """A base is loaded, and then a hundred items take three seconds."""
    narrator.step(begun(step=None))
    narrator.tell("step")
    narrator.count(0, 100)
    clock.now += 8.0
    narrator.count(1, 100)
    assert narrator.step_left() is None
    clock.now += 0.03
    narrator.count(2, 100)
    assert narrator.step_left() == pytest.approx(2.94)


def test_the_training_tells_its_own_time(narrator: ProgressDisplay, out: io.StringIO, clock: Clock) -> None:
    narrator.training(line(1))
    clock.now += 27.0
    narrator.training(line(10))
    assert "step 10/40 loss 0.500 held-out 0.600 300 tokens/s 2.5 GiB, 1 min 30 s left" in out.getvalue()


def test_what_says_nothing_is_told_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """For real: no second passes here without a line."""
    monkeypatch.setattr(telling, "SILENT_SECONDS", 0.5)
    out = io.StringIO()
    with ProgressDisplay(Console(file=out, width=80)) as progress:
        progress.tell("hashing")
        time.sleep(2.5)
    assert "at work for" in out.getvalue()
    assert out.getvalue().splitlines()[-1].endswith(": hashing")


def test_on_a_terminal_one_line_shows_the_step() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, no_color=True, legacy_windows=False)
    with ProgressDisplay(console) as progress:
        progress.step(begun())
        progress.tell("step measure lora r16")
        progress.count(1, 400)
        progress.count(40, 400)
        time.sleep(0.6)
        progress.training(line(1))
        progress.training(line(10))
        time.sleep(0.6)
    shown = out.getvalue()
    assert "40/400, " in shown
    assert "10/40, 1 min 30 s left" in shown


def test_an_interruption_says_what_is_kept_and_how_to_go_on(narrator: ProgressDisplay) -> None:
    def interrupted(telling: bool, training: bool) -> None:
        if telling:
            narrator.step(begun("make lora r16", done=4))
            narrator.tell("training")
        if training:
            narrator.training(line(10))
        raise KeyboardInterrupt

    def end(telling: bool, training: bool) -> str:
        with pytest.raises(KeyboardInterrupt):
            interrupted(telling, training)
        return narrator.kept("tailorbird adapt desk.yaml")

    assert narrator.kept("tailorbird adapt desk.yaml", elsewhere=True) == (
        "no longer following: the server goes on with what was submitted; follow it with: tailorbird adapt desk.yaml"
    )
    assert end(False, False) == "interrupted before the first step, so nothing is lost; go on with: tailorbird adapt desk.yaml"
    kept = "interrupted at the step make lora r16; kept: 4 finished steps of run run0001"
    assert end(True, False) == f"{kept}; go on with: tailorbird adapt desk.yaml"
    assert end(True, True) == f"{kept}, the training as of its last checkpoint; go on with: tailorbird adapt desk.yaml"
    assert narrator.kept("x", elsewhere=True).endswith("; end it with: tailorbird runs cancel run0001")
