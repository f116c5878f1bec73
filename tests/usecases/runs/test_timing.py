"""Timed steps in the record: kept while they are fresh and quiet; errors of estimates beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from support.doubles import MemoryTrainer
from support.usecases import write_objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Calibration, RungPlan
from tailorbird.ports.trainer import TrainingJob
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import snapshot_and_plan
from tailorbird.usecases.runs.context import StepContext
from tailorbird.usecases.runs.submit import plan


class Timer(MemoryTrainer):
    """Counts how often steps are timed, on a machine that is quiet or not."""

    def __init__(self, deps: Dependencies) -> None:
        super().__init__()
        self._clock = deps.clock
        self.times = 0
        self.loaded = False
        self.told: list[float] = []

    def calibrate(self, job: TrainingJob, machine: str, efficiency: float = 0.0) -> Calibration:
        self.times += 1
        self.told.append(efficiency)
        found = {"measured_at": self._clock.now(), "loaded": self.loaded, "efficiency": 0.0 if self.loaded else 0.8}
        return super().calibrate(job, machine).model_copy(update=found)


@pytest.fixture
def timer(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> Timer:
    monkeypatch.setattr(snapshot_and_plan, "WORTH_SECONDS", 0.0)
    return Timer(deps)


Plan = Callable[[str], StepContext]


@pytest.fixture
def planned(deps: Dependencies, timer: Timer, author: Actor, tmp_path: Path) -> Plan:
    def make(name: str) -> StepContext:
        path = write_objective(tmp_path / name, name=name, ladder=["lora"])
        return plan(replace(deps, trainer=lambda: timer), author, path, Progress())

    return make


def lora(stage: StepContext) -> RungPlan:
    return next(rung for rung in stage.plan.rungs if rung.rung is RungKind.LORA)


def test_steps_timed_beside_other_work_serve_the_plans_of_some_hours(deps: Dependencies, timer: Timer, planned: Plan) -> None:
    timer.loaded = True
    assert lora(planned("first")).calibrated.endswith(" beside other work")
    deps.clock.advance(timedelta(hours=11))  # type: ignore[attr-defined]
    assert lora(planned("second")).calibrated.endswith(" beside other work")
    assert timer.times == 1, "a machine that is never quiet is not timed at every plan"
    timer.loaded = False
    for name, later in (("third", timedelta(hours=2)), ("fourth", timedelta(days=29))):
        deps.clock.advance(later)  # type: ignore[attr-defined]
        assert not lora(planned(name)).calibrated.endswith(" beside other work")
    assert timer.times == 2, "the quiet one is kept for a month"
