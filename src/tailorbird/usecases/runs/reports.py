"""A run with everything it has led to so far."""

from __future__ import annotations

from typing import TypeVar

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Climb, Conclusion, Ladder, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import Run, Step, StepState
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import climb_of, looks_of, number_of

V = TypeVar("V", bound=Value)


class RunReport(Value):
    """What is not there yet is None. ``climbs`` are the rungs measured so far, ``looks`` those at the sealed test; ``test`` is the last of
    them, ``gate`` and ``evidence`` are its own."""

    run: Run
    steps: tuple[Step, ...]
    objective: Objective
    manifest: SnapshotManifest | None = None
    base: BaseModelRef | None = None
    plan: Plan | None = None
    climbs: tuple[Climb, ...] = ()
    ladder: Ladder | None = None
    looks: tuple[SealedTest, ...] = ()
    test: SealedTest | None = None
    gate: GateResult | None = None
    evidence: Evidence | None = None
    conclusion: Conclusion | None = None


def report(deps: Dependencies, tenant: str, run: str) -> RunReport:
    """The report of the run whose id is, or starts with, ``run``. Raises NotFound."""
    with deps.ledger.work(tenant, write=False) as work:
        found = work.runs.get(run)
        return _report(work, found, work.steps.of(found.id))


def _report(work: UnitOfWork, run: Run, steps: tuple[Step, ...]) -> RunReport:
    done = {step.name: step.result for step in steps if step.state is StepState.DONE and step.result}
    plan = _at(work, Plan, done.get(transitions.PLAN))
    looks = looks_of(work, done)
    test = looks[-1] if looks else None
    climbs = [climb_of(work, done.get(transitions.measure_step(rung))) for rung in (plan.rungs if plan else ())]
    return RunReport(
        run=run,
        steps=steps,
        objective=work.records.get(Objective, run.objective),
        manifest=_at(work, SnapshotManifest, done.get(transitions.SNAPSHOT)),
        base=_at(work, BaseModelRef, plan.base_model if plan else None),
        plan=plan,
        climbs=tuple(climb for climb in climbs if climb is not None),
        ladder=_at(work, Ladder, done.get(transitions.choose_step(number_of(looks)))),
        looks=looks,
        test=test,
        gate=_at(work, GateResult, test.gate if test else None),
        evidence=_at(work, Evidence, test.evidence if test else None),
        conclusion=_at(work, Conclusion, done.get(transitions.CONCLUDE)),
    )


def _at(work: UnitOfWork, kind: type[V], digest: Digest | None) -> V | None:
    return None if digest is None else work.records.get(kind, digest)
