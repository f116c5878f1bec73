"""Timed steps in the record: kept while they are fresh and quiet, corrected by finished trainings, made anew where somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from support.usecases import VIEWER, write_objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Estimate, Machine, RungPlan
from tailorbird.domain.timing import Calibration, EstimateError
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.testing import MemoryTrainer
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.climb import timing
from tailorbird.usecases.climb.timing import accuracy, known_timings, machine_name
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.runs.plan_variants import plan_retimed
from tailorbird.usecases.runs.submit import adapt, plan
from tailorbird.usecases.steps.step_context import StepContext


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

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        trained = super().train(job, report)
        took = {"thread_seconds": 8.0, "loaded": self.loaded, "seconds": 50.0}
        return trained.model_copy(update={"report": trained.report.model_copy(update=took)})


@pytest.fixture
def timer(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> Timer:
    monkeypatch.setattr(timing, "WORTH_SECONDS", 0.0)
    return Timer(deps)


Plan = Callable[[str], StepContext]


def test_a_machine_that_got_another_processor_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, cores and memory alone the steps of the former one were planned by."""
    machine = Machine(cores=2, memory_gb=23)
    before = machine_name(machine)
    monkeypatch.setattr(timing, "processor_name", lambda: "another one")
    assert machine_name(machine) != before


@pytest.fixture
def planned(deps: Dependencies, timer: Timer, author: Actor, tmp_path: Path) -> Plan:
    def make(name: str) -> StepContext:
        path = write_objective(tmp_path / name, name=name, ladder=["lora"])
        return plan(replace(deps, trainer=lambda: timer), author, path, Progress())

    return make


def lora(stage: StepContext) -> RungPlan:
    assert stage.plan is not None
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


def test_retime_forgets_what_was_timed_and_plans_anew(
    deps: Dependencies, timer: Timer, planned: Plan, author: Actor, tmp_path: Path
) -> None:
    before = planned("desk")
    deps.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
    told: list[str] = []
    again = replace(deps, trainer=lambda: timer)
    path = tmp_path / "desk" / "objective.yaml"
    after = plan_retimed(again, author, path, Progress(tell=told.append))
    assert timer.times == 2
    assert before.run.id == after.run.id
    assert before.plan is not None
    assert after.plan is not None
    assert before.plan.calibrations != after.plan.calibrations
    assert timer.told == [0.0, 0.0], "the efficiency of then is forgotten with the rest"
    with deps.ledger.work("acme", write=False) as work:
        kinds = [entry.event.kind for entry in work.events.latest(20)]
    assert "plan.retimed" in kinds
    adapt(again, author, path, Progress())
    deps.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
    kept = plan_retimed(again, author, path, Progress(tell=told.append))
    assert kept.plan == after.plan
    assert any("follows its plan already" in text for text in told)


def error(stage: StepContext, deps: Dependencies, factor: float, **changes: object) -> EstimateError:
    """A training of the planned rung that took ``factor`` times its estimate on a quiet machine."""
    seconds = Estimate(low=80, likely=100, high=120, unit="s")
    values = {
        "run": stage.run.id,
        "rung": RungKind.LORA,
        "variant": "r16",
        "base_model": stage.base_for(lora(stage)).name,
        "machine": machine_name(machine(stage)),
        "at": deps.clock.now(),
        "calibrated": True,
        "seconds": seconds,
        "took_seconds": 1000.0,
        "memory": seconds,
        "took_memory": 1.0,
        "quiet_seconds": 100.0 * factor,
    }
    return EstimateError.model_validate(values | changes)


def machine(stage: StepContext) -> Machine:
    assert stage.plan is not None
    return stage.plan.machine


@pytest.mark.parametrize(
    ("factors", "correction"),
    [([], 1.0), ([1.44], 1.2), ([1.5, 1.5, 1.5, 0.1, 1.5, 1.5], 1.5 ** (5 / 6)), ([9.0] * 5, 2.0)],
    ids=["none", "one", "an odd one", "far off"],
)
def test_finished_trainings_correct_what_was_timed(deps: Dependencies, planned: Plan, factors: list[float], correction: float) -> None:
    stage = planned("desk")
    with deps.ledger.work("acme") as work:
        for factor in factors:
            deps.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
            work.records.put(error(stage, deps, factor))
        for other in ({"machine": "another"}, {"calibrated": False}, {"rung": RungKind.FULL}, {"quiet_seconds": 0.0}):
            work.records.put(error(stage, deps, 9.0, **other))
    (found,) = known_timings(stage, machine(stage), stage.base_for(lora(stage)))
    assert found.correction == pytest.approx(correction, abs=1e-3)


def test_a_training_beside_other_work_is_judged_by_its_processor_time(
    deps: Dependencies, timer: Timer, planned: Plan, author: Actor, tmp_path: Path
) -> None:
    planned("desk")
    timer.loaded = True
    adapt(replace(deps, trainer=lambda: timer), author, tmp_path / "desk" / "objective.yaml", Progress())
    (found,) = accuracy(deps, VIEWER).errors
    assert (found.took_seconds, found.quiet_seconds) == (50.0, 10.0), "8 s of the processor at the efficiency of 0.8 that was timed"
    assert found.time_error == pytest.approx(found.seconds.likely / 10.0 - 1)


def test_quiet_steps_timed_for_one_tenant_serve_the_others(deps: Dependencies, timer: Timer, planned: Plan, tmp_path: Path) -> None:
    mine = planned("first")
    initialise(deps, "globex", FIRST_PEOPLE)
    path = write_objective(tmp_path / "theirs", tenant="globex", ladder=["lora"])
    theirs = plan(replace(deps, trainer=lambda: timer), act_as(deps, "globex", "author"), path, Progress())
    assert timer.times == 1
    assert mine.plan is not None
    assert theirs.plan is not None
    assert theirs.plan.calibrations == mine.plan.calibrations
    assert lora(theirs).calibrated
    with deps.ledger.work("globex", write=False) as work:
        assert work.records.get(Calibration, theirs.plan.calibrations[0]).passes


def test_what_is_kept_of_timed_steps_names_nobody_and_damage_is_passed_over(deps: Dependencies, timer: Timer, planned: Plan) -> None:
    planned("first")
    (kept,) = deps.timings.glob("*.json")
    assert not any(word in kept.read_text() for word in ("acme", "first", "refund"))
    kept.write_text("{")
    (deps.timings / "other.json").write_text('{"machine": 1}')
    assert lora(planned("second")).calibrated
    assert timer.times == 1, "the tenant's own record has it"
