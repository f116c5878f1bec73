"""Held-out losses that rise, memory that is returned: what the loop watches while it learns."""

from __future__ import annotations

from itertools import count

import pytest

from support.training_samples import MakeJob
from tailorbird.training import loop, open_trainer
from tailorbird.training.checkpoints import LoopState
from tailorbird.training.loop import ValidationRows


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


def test_a_run_on_its_plateau_is_lengthened_and_its_rate_stays_up(make_job: MakeJob) -> None:
    still = {"learning_rate": 1e-7, "epochs": 2}
    planned = open_trainer().train(make_job(workspace="planned", **still), lambda _: None).report
    report = open_trainer().train(make_job(waiting_epochs=2, **still), lambda _: None).report
    assert report.plateau is not None
    assert report.plateau.left is None
    assert report.steps == 2 * planned.steps == planned.steps + report.plateau.added
    rates = [each.learning_rate for each in report.history]
    assert min(rates[3 : planned.steps]) > 0.7e-7, "it does not fall while the run waits"
    assert rates[-1] < 0.1e-7, "it falls at the end"
