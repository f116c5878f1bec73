"""Timed steps behind a plan's estimates, and how far the estimates were from what happened.

In: a stage, a plan, what a rung's training took. Out: calibrations from the record or made now; errors of estimates. Must not know: the
formulas (``planning/``), how steps are timed (``training/``).
"""

from __future__ import annotations

import platform
from datetime import timedelta

from tailorbird import rungs
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.calibration import Calibration, EstimateError
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Machine, Plan, RungPlan
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Value
from tailorbird.lifecycle.climbing.bases import Refs, ref_of
from tailorbird.lifecycle.climbing.rung_context import context_of
from tailorbird.lifecycle.parts import Parts
from tailorbird.lifecycle.steps.stage import Stage

#: Timing steps takes some tens of seconds: a rung that takes less than this needs no better estimate.
WORTH_SECONDS = 120.0
#: What was timed longer ago than this is timed again: drivers and libraries change.
_FRESH = timedelta(days=30)


def machine_name(machine: Machine) -> str:
    """How a machine is known in the record of timed steps."""
    return f"{platform.node()}: {machine.cores} cores, {machine.memory_gb:.0f} GiB, {', '.join(machine.gpus) or 'no GPU'}"


def known_timings(stage: Stage, machine: Machine, base: BaseModelRef) -> tuple[Calibration, ...]:
    """Timed steps of ``base`` on this machine that are in the record and fresh."""
    name, oldest = machine_name(machine), stage.parts.clock.now() - _FRESH
    return tuple(one for one in _all(stage) if one.machine == name and one.base_model == base.digest and one.measured_at > oldest)


def time_steps(stage: Stage, plan: Plan, refs: Refs) -> tuple[Calibration, ...]:
    """The known ones, and a few steps of each planned method that has none and is worth it. One that cannot be timed stays a formula's."""
    timed = [one for base in refs.values() for one in known_timings(stage, plan.machine, base)]
    if stage.objective.task.kind is TaskKind.RANK:
        return tuple(timed)
    for rung in plan.rungs:
        if (
            rung.training is None
            or rung.calibrated
            or rung.time.likely < WORTH_SECONDS
            or _has(timed, rung, base := ref_of(refs, plan, rung))
        ):
            continue
        stage.progress.tell(f"timing a few steps of {rung.rung.value} {rung.variant} on this machine")
        try:
            job = rungs.training_job(context_of(stage, rung, base))
            timed.append(stage.parts.trainer().calibrate(job, machine_name(plan.machine)))
        except TailorbirdError as error:
            stage.progress.tell(f"its steps could not be timed ({error.error_code}); the estimate rests on formulas alone")
    return tuple(timed)


def _has(timed: list[Calibration], rung: RungPlan, base: BaseModelRef) -> bool:
    assert rung.training is not None
    wanted = (base.digest, rung.training.method, rung.training.precision)
    return any((one.base_model, one.settings.method, one.settings.precision) == wanted for one in timed)


def _all(stage: Stage) -> list[Calibration]:
    with stage.parts.ledger.work(stage.run.tenant, write=False) as work:
        return [work.records.get(Calibration, digest) for digest in work.records.digests(Calibration)]


def error_of(stage: Stage, rung: RungPlan, report: TrainingReport) -> EstimateError | None:
    """How far the rung's estimates were from its training; None where nothing was estimated."""
    if rung.training_time is None or rung.training_memory is None or stage.plan is None:
        return None
    return EstimateError(
        run=stage.run.id,
        rung=rung.rung,
        variant=rung.variant,
        base_model=stage.base_for(rung).name,
        machine=machine_name(stage.plan.machine),
        at=stage.parts.clock.now(),
        calibrated=bool(rung.calibrated),
        seconds=rung.training_time,
        took_seconds=report.seconds,
        memory=rung.training_memory,
        took_memory=report.grown_memory_gb,
    )


class Accuracy(Value):
    """The planner's own record: every estimate of a training and what it took, oldest first."""

    errors: tuple[EstimateError, ...]


def accuracy(parts: Parts, tenant: str) -> Accuracy:
    """The record of ``tenant``."""
    with parts.ledger.work(tenant, write=False) as work:
        return Accuracy(errors=tuple(work.records.get(EstimateError, digest) for digest in work.records.digests(EstimateError)))
