"""Held-out losses that rise, memory that is returned: what the loop watches while it learns."""

from __future__ import annotations

from itertools import count

import pytest

from support.training_samples import MakeJob
from tailorbird.training import open_trainer
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
