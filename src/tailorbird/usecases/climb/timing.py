"""Timed training steps behind a plan's estimates, and the error of past estimates."""

from __future__ import annotations

import platform
from collections.abc import Container, Iterable
from datetime import timedelta
from statistics import median

from tailorbird import rungs
from tailorbird.auth import Action
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Machine, Plan, RungPlan, TrainingSettings
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.timing import Calibration, EstimateError
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.processor import processor_name
from tailorbird.usecases.climb.base_candidates import Refs, ref_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.steps.step_context import StepContext
from tailorbird.usecases.steps.transitions import named

#: Timing steps takes some tens of seconds: a rung that takes less than this needs no better estimate.
WORTH_SECONDS = 120.0
#: What was timed longer ago than this is timed again: drivers and libraries change.
_FRESH = timedelta(days=30)
#: What was timed beside other work is read in processor time, whose error is wider: it is timed again after so long. A machine that is
#: never quiet would else time at every plan, for half a minute, and learn the same.
_FRESH_LOADED = timedelta(hours=12)
#: Share of the time that the thread which runs a training computes on a quiet machine, where that was never measured.
_EFFICIENCY = 0.9


def machine_name(machine: Machine) -> str:
    """Name of a machine in the record of timed steps."""
    gpus = ", ".join(machine.gpus) or "no GPU"
    return f"{platform.node()}: {machine.cores} cores of {processor_name()}, {machine.memory_gb:.0f} GiB, {gpus}"


def known_timings(context: StepContext, machine: Machine, base: BaseModelRef) -> tuple[Calibration, ...]:
    """Timed steps of ``base`` on this machine that are in the record and fresh."""
    return tuple(one for one in _fresh(context, machine) if one.base_model == base.digest)


def _fresh(context: StepContext, machine: Machine) -> list[Calibration]:
    """What was timed on this machine lately."""
    name, now = machine_name(machine), context.deps.clock.now()
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        found = [work.records.get(Calibration, digest) for digest in work.records.digests(Calibration)]
    return [one for one in found if one.machine == name and now - one.measured_at < (_FRESH_LOADED if one.loaded else _FRESH)]


def time_steps(context: StepContext, plan: Plan, refs: Refs, reused: Container[str] = ()) -> tuple[Calibration, ...]:
    """The known ones, and a few steps of each planned method that has none and is worth it. One that cannot be timed stays a formula's;
    rungs whose training is ``reused`` (by name) need none."""
    efficiency = median([one.efficiency for one in _fresh(context, plan.machine) if one.efficiency] or [0.0])
    timed = [one for base in refs.values() for one in known_timings(context, plan.machine, base)]
    if context.objective.task.kind is TaskKind.RANK:
        return tuple(timed)
    for rung in plan.rungs:
        if (
            not rung.trains_base
            or named(rung) in reused
            or rung.calibrated
            or rung.time.likely < WORTH_SECONDS
            or _has(timed, rung, base := ref_of(refs, plan, rung))
        ):
            continue
        context.progress.tell(f"timing a few steps of {rung.rung.value} {rung.variant} on this machine")
        try:
            job = rungs.training_job(context_of(context, rung, base))
            timed.append(context.deps.trainer().calibrate(job, machine_name(plan.machine), efficiency))
            if timed[-1].loaded:
                context.progress.tell(
                    "other processes want the cores: its steps were read in processor time, and plans of the next hours go by that"
                )
        except TailorbirdError as error:
            context.progress.tell(f"its steps could not be timed ({error.error_code}); the estimate rests on formulas alone")
    return tuple(timed)


def _has(timed: list[Calibration], rung: RungPlan, base: BaseModelRef) -> bool:
    assert rung.training is not None
    return _of(timed, base.digest, rung.training) is not None


def _of(timed: Iterable[Calibration], base: Digest, training: TrainingSettings) -> Calibration | None:
    """The newest timed steps that an estimate of ``training`` rests on."""
    wanted = (base, training.method, training.precision, training.threads)
    found = [one for one in timed if (one.base_model, one.settings.method, one.settings.precision, one.settings.threads) == wanted]
    return max(found, key=lambda one: one.measured_at, default=None)


def _recorded(work: UnitOfWork) -> tuple[EstimateError, ...]:
    """Every estimate of a training and what it took, oldest first."""
    return tuple(work.records.get(EstimateError, digest) for digest in work.records.digests(EstimateError))


def error_of(context: StepContext, rung: RungPlan, report: TrainingReport) -> EstimateError | None:
    """Error of the rung's estimates against its training; None where nothing was estimated."""
    if rung.training is None or rung.training_time is None or rung.training_memory is None or context.plan is None:
        return None
    timed = _of((context.record(Calibration, digest) for digest in context.plan.calibrations), context.base_for(rung).digest, rung.training)
    return EstimateError(
        run=context.run.id,
        rung=rung.rung,
        variant=rung.variant,
        base_model=context.base_for(rung).name,
        machine=machine_name(context.plan.machine),
        at=context.deps.clock.now(),
        calibrated=bool(rung.calibrated),
        seconds=rung.training_time,
        took_seconds=report.seconds * _planned_share(report),
        memory=rung.training_memory,
        took_memory=report.grown_memory_gb,
        quiet_seconds=_quiet_seconds(report, timed),
    )


def _quiet_seconds(report: TrainingReport, timed: Calibration | None) -> float:
    """What the whole training would have taken with the machine to itself; 0 where it ended early, which no estimate knows."""
    if report.stopped_early is not None:
        return 0.0
    efficiency = (timed.efficiency if timed else 0.0) or _EFFICIENCY
    took = round(report.thread_seconds / efficiency, 3) if report.loaded else report.seconds
    return took * _planned_share(report)


def _planned_share(report: TrainingReport) -> float:
    """The share of a training's steps that were planned: those added while it had not begun to learn were not estimated."""
    return (report.steps - report.plateau.added) / report.steps if report.plateau and report.steps else 1.0


class Accuracy(Value):
    """The planner's own record: every estimate of a training and what it took, oldest first."""

    errors: tuple[EstimateError, ...]


@usecase("plan.accuracy", "GET", "/api/accuracy", Action.SHOW_RUN)
def accuracy(deps: Dependencies, actor: Actor) -> Accuracy:
    """How far estimates were from what trainings took."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return Accuracy(errors=_recorded(work))
