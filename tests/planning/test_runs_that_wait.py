"""How long a run may be lengthened before it has begun to learn, and what choosing thresholds takes."""

from __future__ import annotations

import pytest

from support.planning import inputs, manifest, objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import RungPlan, TrainingSettings
from tailorbird.planning import PlanInputs, make_plan

PLENTY = {"hours": 1000, "money": 1000}


def planned(found: PlanInputs) -> tuple[RungPlan, TrainingSettings]:
    rung = next(rung for rung in make_plan(found).rungs if rung.rung is RungKind.LORA)
    assert rung.training is not None
    return rung, rung.training


def reason(rung: RungPlan, rule: str) -> str:
    return next(reason.text for reason in rung.reasons if reason.rule == rule)


def test_as_many_passes_again_as_are_planned_and_the_plan_says_so() -> None:
    rung, training = planned(inputs(objective=objective(budget=PLENTY)))
    assert training.waiting_epochs == training.epochs > 0
    assert "up to" in (told := reason(rung, "R11"))
    assert "2.0 times as long" in told


@pytest.mark.parametrize(("share", "added"), [(1.1, 0), (1.7, 2), (9.0, 4)])
def test_no_more_than_the_budget_holds(share: float, added: int) -> None:
    rung, _ = planned(inputs(objective=objective(budget=PLENTY)))
    hours = share * rung.time.likely / 3600
    tight, training = planned(inputs(objective=objective(budget={"hours": hours, "money": 1000})))
    assert (training.epochs, training.waiting_epochs) == (4, added)
    assert ("the budget does not hold them" in reason(tight, "R11")) is (added == 0)


def test_epochs_that_are_asked_for_are_not_exceeded() -> None:
    rung, training = planned(inputs(objective=objective(budget=PLENTY, lora={"epochs": 4})))
    assert (training.epochs, training.waiting_epochs) == (4, 0)
    assert "waiting_epochs" not in training.model_dump(), "settings of before keep their digest"
    assert "as the objective says" in reason(rung, "R11")


def test_choosing_thresholds_takes_time_where_an_item_may_bear_several_labels() -> None:
    """The same rows: those held out are answered too."""
    counted = manifest(train=2_000)
    one, many = (
        inputs(manifest=counted, objective=objective(budget=PLENTY, task={"kind": "classify", "labels": labels, "instruction": "x"}))
        for labels in ("one", "many")
    )
    assert planned(many)[0].time.likely > planned(one)[0].time.likely
