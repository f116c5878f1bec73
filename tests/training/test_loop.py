"""Held-out losses that rise, memory that is returned: what the loop watches while it learns."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch

from support.training_samples import MakeJob
from tailorbird.training import loop, open_trainer
from tailorbird.training.batches import TokenizedRow
from tailorbird.training.checkpoints import LoopState
from tailorbird.training.loop import ValidationRows
from tailorbird.training.network import Network, read_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("now", "risen"),
    [
        ([1.5, 1.6, 1.4, 1.5, 1.7, 1.5, 1.4, 1.5], True),
        ([1.5, 0.6, 1.4, 0.5, 1.7, 0.5, 1.4, 0.6], False),
        ([0.9] * 8, False),
        ([1.0] * 8, False),
    ],
)
def test_a_rise_counts_beyond_its_interval(now: list[float], risen: bool, tiny_base: Path, rows: list[TokenizedRow]) -> None:
    held_out = ValidationRows(Network(read_model(tiny_base, torch.float32, CPU), "fp32"), rows[:8], 1000)
    assert held_out.has_risen(now, [1.0] * 8) is risen
    assert held_out.has_risen(now[:7], [1.0] * 7) is False, "too few rows"


def test_losses_by_row_are_those_of_each_row_alone(tiny_base: Path, rows: list[TokenizedRow]) -> None:
    network = Network(read_model(tiny_base, torch.float32, CPU), "fp32")
    held_out = ValidationRows(network, rows, 120)
    assert held_out.losses() == pytest.approx([network.plain_loss_sum(row) for row in rows], rel=1e-5)


def test_two_rises_in_a_row_end_a_run() -> None:
    state = LoopState(step=3).judged(1.0, (1.0,), False)
    once = state.model_copy(update={"step": 4}).judged(2.0, (2.0,), True)
    assert (once.stopped_early, once.best_step) == (None, 3)
    assert once.judged(1.5, (1.5,), False).rises == 0
    assert once.model_copy(update={"step": 5}).judged(2.0, (2.0,), True).stopped_early == 5


def test_a_run_whose_held_out_loss_rises_stops_and_keeps_the_best(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = count()

    def rising(self: ValidationRows) -> list[float]:
        return [abs(next(measured) // 8 - 1) + 0.01 * row for row in range(8)]

    monkeypatch.setattr(ValidationRows, "losses", rising)
    job, seen = make_job(epochs=4), []
    report = open_trainer().train(job, lambda _: None).report
    evaluated = [line.step for line in report.history if line.held_out_loss is not None]
    assert report.best_step == evaluated[1]
    assert report.stopped_early == report.steps == evaluated[6], "rises count in the second half of the run"
    open_trainer().train(job, seen.append)
    assert seen == [], "a run that was stopped is not taken up again"


def test_memory_is_returned_where_the_process_has_grown_and_not_after_each_step(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a return gives back the next step takes again: returned after each step, pages were faulted in anew at each step."""
    held, steps, returns = [0.5], count(1), list[float]()
    gradients = loop.Loop._gradients

    def takes(running: loop.Loop, state: LoopState) -> tuple[float, LoopState]:
        held[0] = 1.0 if next(steps) < 4 else 1.3
        return gradients(running, state)

    def gives_back() -> None:
        returns.append(held[0])
        held[0] = 0.5

    monkeypatch.setattr(loop.Loop, "_gradients", takes)
    monkeypatch.setattr(loop, "resident_gib", lambda: held[0])
    monkeypatch.setattr(loop, "return_freed_memory", gives_back)
    assert len(open_trainer().train(make_job(), lambda _: None).report.history) >= 6
    assert returns == [1.3]
