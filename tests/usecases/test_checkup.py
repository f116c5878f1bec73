"""The doctor looks before anything is spent; adapt heeds what it finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryTrainer
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Examination, PreflightFinding, PreflightSeverity
from tailorbird.domain.run import RunState
from tailorbird.ports.trainer import TrainingJob
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs.submit import adapt, examine_objective, plan

WARNING = PreflightFinding(code="bos_missing", severity=PreflightSeverity.WARNING, what="rows do not begin", remedy="let them begin")


class Pessimist(MemoryTrainer):
    """Finds something in the way of the methods it is given, and a warning for all others."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods

    def examine(self, job: TrainingJob) -> Examination:
        blocking = PreflightFinding(
            code="labels_collide", severity=PreflightSeverity.BLOCKING, what="two labels are one", remedy="rename one"
        )
        return Examination(findings=(blocking,) if job.settings.method in self.methods else (WARNING,))


def with_trainer(deps: Dependencies, trainer: MemoryTrainer) -> Dependencies:
    return replace(deps, trainer=lambda: trainer)


def test_it_examines_each_rung_that_trains_and_freezes_no_plan(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    checkup = examine_objective(deps, author, objective_path, Progress())
    assert checkup.healthy
    assert [one.rung.rung for one in checkup.rungs] == [RungKind.LORA, RungKind.LORA, RungKind.FULL]
    assert all(one.examination.first_batch for one in checkup.rungs)
    with deps.ledger.work("acme") as work:
        (run,) = work.runs.all()
        assert run.state is RunState.PLANNED
        assert [step.name for step in work.steps.of(run.id)] == ["snapshot"]
    assert not list(deps.runs.rglob("*.safetensors"))
    assert adapt(deps, author, objective_path, Progress()).run.id == run.id


def test_a_finding_that_blocks_every_rung_stops_adapt_until_it_is_mended(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    broken = with_trainer(deps, Pessimist("lora", "full"))
    for verb in (plan, adapt):
        with pytest.raises(InvalidInput, match="two labels are one") as caught:
            verb(broken, author, objective_path, Progress())
        assert (caught.value.error_code, caught.value.hint) == ("labels_collide", "rename one")
    assert not examine_objective(broken, author, objective_path, Progress()).healthy
    assert adapt(deps, author, objective_path, Progress()).conclusion is not None


def test_a_rung_that_alone_is_blocked_is_left_out_and_warnings_are_told_and_kept(
    deps: Dependencies, author: Actor, objective_path: Path
) -> None:
    told: list[str] = []
    made = plan(with_trainer(deps, Pessimist("full")), author, objective_path, Progress(tell=told.append)).plan
    assert RungKind.FULL not in {rung.rung for rung in made.rungs}
    assert ("full all weights", "two labels are one") in {(refusal.name, refusal.reason) for refusal in made.left_out}
    assert made.findings == (WARNING,)
    assert "warning [bos_missing]: rows do not begin: let them begin" in told
