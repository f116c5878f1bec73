"""Read model of a run: what its finished steps left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from typing import TypeVar

from tailorbird import release
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import NotFound
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Allowance, Candidate, Choice, Climb, Ladder, Making, Measured, Refusal, RungKind, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.run import FLOOR, PLAN, SNAPSHOT, Run, Step, results_of
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_records
from tailorbird.usecases.runs import transitions

V = TypeVar("V", bound=Value)


class RunRecord:
    """What the finished steps of a run left; each record is read when it is first asked for."""

    run: Run
    steps: tuple[Step, ...]

    def record(self, kind: type[V], digest: Digest) -> V:
        """A record of the run's tenant."""
        raise NotImplementedError

    @property
    def objective(self) -> Objective:
        """The objective of the run."""
        return self.record(Objective, self.run.objective)

    @cached_property
    def done(self) -> dict[str, Digest]:
        """Finished steps and the digests of their results."""
        return results_of(self.steps)

    def result(self, kind: type[V], step: str) -> V:
        """Result of a finished step."""
        return self.record(kind, self.done[step])

    def result_if_done(self, kind: type[V], step: str) -> V | None:
        """Result of a step; None where it is not finished."""
        return self.result(kind, step) if step in self.done else None

    @cached_property
    def manifest(self) -> SnapshotManifest:
        """The snapshot's manifest."""
        return self.result(SnapshotManifest, SNAPSHOT)

    @cached_property
    def plan(self) -> Plan | None:
        """The plan, once there is one."""
        return self.result_if_done(Plan, PLAN)

    @property
    def planned(self) -> Plan:
        """The plan, of a run whose step ``plan`` is done."""
        assert self.plan is not None
        return self.plan

    @property
    def rungs(self) -> tuple[RungPlan, ...]:
        """The planned rungs; none before there is a plan."""
        return self.plan.rungs if self.plan else ()

    @cached_property
    def base(self) -> BaseModelRef:
        """The base model the plan names; of several, the first."""
        return self.record(BaseModelRef, self.planned.base_model)

    @cached_property
    def climbs(self) -> tuple[Climb, ...]:
        """Rungs climbed so far, cheapest first."""
        found = []
        for rung in self.rungs:
            if (step := transitions.measure_step(rung)) in self.done:
                try:
                    found.append(self.result(Climb, step))
                except NotFound:  # the rung ended while it was measured: the step left a ``Making``
                    continue
        return tuple(found)

    @cached_property
    def floor(self) -> Climb | None:
        """The floor as a climb of the ladder, once it is measured."""
        measured = self.result_if_done(Measured, FLOOR)
        if measured is None:
            return None
        candidate, making = self.record(Candidate, measured.candidate), self.record(Making, measured.making)
        evidence = self.record(Evidence, measured.evidence)
        return Climb(
            rung=RungKind.FLOOR,
            candidate=measured.candidate,
            variant=candidate.variant,
            trained_parameters=candidate.trained_parameters,
            evidence=evidence,
            gate=dev_gate(self.objective, evidence),
            against_below=None,
            choice=measured.choice or Choice.CLIMB,
            reason=measured.reason or "the classical reference, beside the ladder",
            seconds=making.seconds,
            peak_memory_gb=making.peak_memory_gb,
            money=making.money,
            energy_kwh=making.energy_kwh,
            process_memory_gb=making.process_memory_gb,
        )

    @cached_property
    def floor_is_rung(self) -> bool:
        """True when the floor was measured as the lowest rung: it is stored then, and may be released."""
        return self.floor is not None and self.record(Candidate, self.floor.candidate).floor is not None

    @property
    def measured(self) -> tuple[Climb, ...]:
        """All that may be chosen: the floor, where it is a rung, and the rungs that were climbed."""
        return (self.floor, *self.climbs) if self.floor and self.floor_is_rung else self.climbs

    @cached_property
    def makings(self) -> dict[RungPlan, Making]:
        """How each rung was made."""
        return {rung: self.result(Making, step) for rung in self.rungs if (step := transitions.make_step(rung)) in self.done}

    @cached_property
    def ended(self) -> dict[RungPlan, tuple[str, Making]]:
        """Rungs that ended without evidence: in which step, and what that left."""
        found = {rung: (transitions.make_step(rung), made) for rung, made in self.makings.items() if made.candidate is None}
        climbed = {(climb.rung, climb.variant) for climb in self.climbs}
        for rung in self.rungs:
            if (step := transitions.measure_step(rung)) in self.done and (rung.rung, rung.variant) not in climbed:
                found[rung] = step, self.result(Making, step)
        return found

    @cached_property
    def looks(self) -> tuple[SealedTest, ...]:
        """Looks of this run at the sealed test, in order."""
        return tuple(self.result(SealedTest, step) for step in takewhile(self.done.__contains__, map(transitions.look_step, count(1))))

    @property
    def look(self) -> int:
        """The number of the look (1-based, among those of the run) that is made or prepared now."""
        return 1 + sum(each.goes_on for each in self.looks)

    @cached_property
    def ladder(self) -> Ladder | None:
        """The finished climb, once a candidate was chosen or none was found; None while the climb goes on after a look."""
        return self.result_if_done(Ladder, transitions.choose_step(self.look))


@dataclass(frozen=True)
class StoredRun(RunRecord):
    """A run as one transaction reads it."""

    work: UnitOfWork
    run: Run
    steps: tuple[Step, ...]

    def record(self, kind: type[V], digest: Digest) -> V:
        """A record of the run's tenant."""
        return self.work.records.get(kind, digest)


def refused_floor(plan: Plan) -> tuple[Refusal, ...]:
    """The floor, where it was not made."""
    refused = plan.floor.refused if plan.floor else ""
    return (Refusal(rung=RungKind.FLOOR, reason=f"it {refused}"),) if refused else ()


def dev_gate(objective: Objective, evidence: Evidence) -> GateResult:
    """The gate on dev, at the first look."""
    return release.apply_gate(release.GateInputs(objective=objective, evidence=evidence, look=1))


def allowances_of(work: UnitOfWork, run: str) -> tuple[Allowance, ...]:
    """What somebody allowed the run."""
    return tuple(one for digest in anchored_records(work, Allowance) if (one := work.records.get(Allowance, digest)).run == run)
