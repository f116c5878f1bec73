"""First steps of a run: data snapshot, base models, plan."""

from __future__ import annotations

import platform
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from tailorbird import data, planning, rungs
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Machine, Plan, PlannedRanker, RungPlan, ShiftPower, TrainingSettings
from tailorbird.domain.preflight import Examination, PreflightFinding, PreflightSeverity
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.timing import Calibration, EstimateError
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import check_labels, check_origins, check_power, check_shift_power
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.machine import processor_name
from tailorbird.text.known_templates import DEFAULT, TEMPLATES
from tailorbird.usecases.anchored_rows import anchored_splits
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.climb import base_candidates
from tailorbird.usecases.climb.base_candidates import Refs, ref_of
from tailorbird.usecases.climb.incumbent import foreseen, incumbent_finding
from tailorbird.usecases.climb.metric_spec import ItemsOf, comparison_of, groups_of, items_of
from tailorbird.usecases.climb.provability import (
    check_provable,
    contradicting_labels_finding,
    thin_labels_finding,
    trivial_target_finding,
    untested_answers_finding,
)
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.climb.training_reuse import reused_trainings, with_reuse
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.endpoints import named_endpoints
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.released_ranker import demand_one_width, find_ranker, planned_ranker
from tailorbird.usecases.snapshots.snapshot_queries import amendments_of, manifests_of
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext, StepOutcome
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


class ExaminedRung(Value):
    """A rung and what an examination of its training found."""

    rung: RungPlan
    examination: Examination


def examine_rungs(context: StepContext, plan: Plan, refs: Refs, reused: Container[str] = ()) -> tuple[ExaminedRung, ...]:
    """Examines each rung of ``plan`` that trains, those ``reused`` (by name) left out. Takes seconds, and trains nothing."""
    speaks = context.objective.task.kind is not TaskKind.RANK
    trained = [rung for rung in plan.rungs if rung.trains_base and speaks and named(rung) not in reused]
    if trained:
        context.progress.tell("examining what would be trained")
    return tuple(_examined(context, rung, ref_of(refs, plan, rung)) for rung in trained)


def _examined(context: StepContext, rung: RungPlan, base: BaseModelRef) -> ExaminedRung:
    return ExaminedRung(rung=rung, examination=context.deps.trainer().examine(rungs.training_job(context_of(context, rung, base))))


def heeded(plan: Plan, examined: Sequence[ExaminedRung]) -> Plan:
    """The plan without the rungs in whose way something stands, and with all other findings.

    Raises InvalidInput, with the finding's code, when something stands in the way of every rung that trains.
    """
    blocked = {one.rung: one.examination.blocking for one in examined if one.examination.blocking}
    if blocked and all(rung in blocked for rung in plan.rungs if rung.training is not None):
        raise _blocked(next(iter(blocked.values())))
    refusals = [Refusal(rung=rung.rung, variant=rung.variant, reason=found[0].what) for rung, found in blocked.items()]
    kept = [one for one in examined if one.rung not in blocked]
    return plan.model_copy(
        update={
            "rungs": tuple(rung for rung in plan.rungs if rung not in blocked),
            "left_out": (*plan.left_out, *refusals),
            "findings": tuple(dict.fromkeys(finding for one in kept for finding in one.examination.findings)),
        }
    )


def _blocked(found: tuple[PreflightFinding, ...]) -> InvalidInput:
    more = f" (and {len(found) - 1} more: tailorbird doctor shows all)" if len(found) > 1 else ""
    return InvalidInput(f"{found[0].what}{more}", found[0].remedy, code=found[0].code)


def take_snapshot(context: StepContext) -> StepOutcome:
    """Reads, cleans, splits and freezes the data; refuses KPIs that the data cannot prove, before anything is spent."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        known = anchored_splits(work, context.objective.name)
        rules = [found.shift.rule for found in manifests_of(work, context.objective.name).values() if found.shift]
    request = data.SnapshotRequest(
        objective=context.objective,
        folder=Path(context.file.folder),
        artifacts=context.deps.artifacts,
        known=known,
        progress=context.progress.tell,
        amendments=amendments_of(context.deps, context.objective),
        detectors=context.deps.detectors,
        shift=rules[-1] if rules else None,
    )
    built = data.build_snapshot(request)
    check_origins(context.file, built.manifest.files)
    check_labels(context.file, built.manifest)
    items = items_of(context, built.manifest)
    check_provable(context, built.manifest, items)
    check_power(context.file, built.manifest, groups_of(context, built.manifest, items))
    _power_on_shifted(context, built.manifest, items)

    def remember(work: UnitOfWork) -> None:
        work.splits.remember(context.objective.name, {row: place for row, place in built.assigned.items() if row not in known})

    counts = built.manifest.counts
    split: Facts = {"train": counts.train, "dev": counts.dev, "test": counts.test}
    return StepOutcome(
        built.manifest, split | {"duplicates": built.manifest.duplicates, "quarantined": built.manifest.quarantined}, remember
    )


def _power_on_shifted(context: StepContext, manifest: SnapshotManifest, items: ItemsOf) -> tuple[ShiftPower, ...]:
    """What the shifted part can prove. Raises ObjectiveInvalid as ``check_shift_power``."""
    sizes = groups_of(context, manifest, items, shifted=True)
    return check_shift_power(context.file, manifest, lambda split: sizes(split, None))


def make_plan(context: StepContext) -> StepOutcome:
    """Drafts the plan, times steps of what is costly enough, examines what it would train, and freezes it.

    Raises InvalidInput when nothing of it could be trained, Exhausted when the budget affords no rung.
    """
    offers = with_probes(context, offers_of(context))
    refs = base_candidates.refs_of(offers)
    untimed = planning.make_ladder(offers)
    timed = time_steps(context, untimed, refs, reused_trainings(context, untimed, refs))
    draft = planning.make_ladder([_with_timings(offer, timed) for offer in offers])
    _refuse_empty(context, draft)
    reused = reused_trainings(context, draft, refs)
    examined = heeded(draft, examine_rungs(context, draft, refs, reused))
    plan = with_reuse(_with_incumbent(context, examined, offers), reused)
    for finding in plan.findings:
        context.progress.tell(f"{finding.severity.value} [{finding.code}]: {finding.what}: {finding.remedy}")
    facts: Facts = {"rungs": len(plan.rungs), "left_out": len(plan.left_out), "findings": len(plan.findings), "timed": len(timed)}
    facts |= {"reused": len(reused)} if reused else {}
    if ranker := next((rung.ranker for rung in plan.rungs if rung.ranker), None):
        facts |= {"encoder_of": ranker.release}

    encoders = [offer.inputs.encoder for offer in offers if offer.inputs and offer.inputs.encoder][:1]  # all have the same

    def keep(work: UnitOfWork) -> None:
        for value in (*refs.values(), *encoders, *timed):
            work.records.put(value)

    return StepOutcome(plan, facts, keep)


def _with_incumbent(context: StepContext, plan: Plan, offers: Sequence[planning.BaseOffer]) -> Plan:
    """The plan with what can be proven against the release that answers now; with findings where that is too little, and where dev or test
    hold too few items of a label, or conversations answers that are not measured."""
    found = foreseen(context)
    findings = (
        incumbent_finding(found, comparison_of(context)),
        thin_labels_finding(context.manifest),
        trivial_target_finding(context.objective, context.manifest),
        contradicting_labels_finding(context),
        untested_answers_finding(context),
        _cut_texts_finding(plan, offers),
        _template_finding(context, offers),
    )
    return plan.model_copy(update={"incumbent": found, "findings": plan.findings + tuple(one for one in findings if one)})


def _cut_texts_finding(plan: Plan, offers: Sequence[planning.BaseOffer]) -> PreflightFinding | None:
    """A warning where an encoder reads texts whose end it does not see."""
    reads = (plan.floor is not None and plan.floor.encoder) or any(rung.rung is RungKind.ENCODER for rung in plan.rungs)
    cut = next((cut for offer in offers if offer.inputs and (cut := planning.cut_texts(offer.inputs))), "") if reads else ""
    if not cut:
        return None
    return PreflightFinding(
        code="texts_cut",
        severity=PreflightSeverity.WARNING,
        what=cut,
        remedy="where the end decides, put it first (the conclusion, a summary), or cut the documents into rows",
    )


def _template_finding(context: StepContext, offers: Sequence[planning.BaseOffer]) -> PreflightFinding | None:
    """A note where conversations are laid out otherwise than by the base models' own chat templates."""
    given = [offer for offer in offers if offer.inputs and offer.inputs.base.chat_template]
    if not given:
        return None
    asked, names = context.objective.chat_template, ", ".join(offer.label for offer in given)
    what = f"the chat template {asked} stands in place of their own: {names}" if asked else f"no chat template of their own: {names}"
    others = ", ".join(name for name in TEMPLATES if name != DEFAULT)
    remedy = (
        "remove `chat_template` from the objective to use the model's own"
        if asked
        else f"conversations are laid out by the template {DEFAULT}; for another one: chat_template: {others}, or a .jinja file"
    )
    return PreflightFinding(code="chat_template_given", severity=PreflightSeverity.NOTE, what=what, remedy=remedy)


def with_probes(context: StepContext, offers: tuple[planning.BaseOffer, ...]) -> tuple[planning.BaseOffer, ...]:
    """The offers with what their bases do untrained, where there are several to choose between and asking them is cheap enough."""
    able = planning.bases_to_probe(offers)
    if len(able) < 2:
        return offers
    if why_not := base_candidates.why_not_probed(context, [rung for _, rung in able.values()]):
        context.progress.tell(f"the base models are not probed: {why_not}")
        return offers
    found = base_candidates.probe_bases(context, able)
    return tuple(replace(offer, probe=found.get(offer.label)) for offer in offers)


def draft_plan(context: StepContext) -> tuple[Plan, base_candidates.Refs]:
    """Fetches the base models, measures the machine, and plans without timing anything; and the base models."""
    offers = offers_of(context)
    return planning.make_ladder(offers), base_candidates.refs_of(offers)


def offers_of(context: StepContext) -> tuple[planning.BaseOffer, ...]:
    """Inputs of the planner for each base model of the objective; timed steps are those recorded for this machine.

    Raises Exhausted (``no_rung``) where no base needs to be fetched.
    """
    context.progress.tell("measuring this machine")
    items = items_of(context, context.manifest)
    dev_power, test_power = check_power(context.file, context.manifest, groups_of(context, context.manifest, items))
    shift = _power_on_shifted(context, context.manifest, items)
    machine, (encoder, without_encoder), comparison = _machine(context), base_candidates.encoder_for(context), comparison_of(context)
    ranker, named = _ranker(context), named_endpoints(context.deps, context.file)
    hosted = iter([named.hosted])

    def inputs_of(base: BaseModelRef) -> planning.PlanInputs:
        return planning.PlanInputs(
            objective=context.objective,
            objective_digest=context.run.objective,
            snapshot=digest_of(context.manifest),
            manifest=context.manifest,
            base=base,
            machine=machine,
            tokens=base_candidates.token_profile(context, base),
            prices=context.deps.prices,
            dev_power=dev_power,
            test_power=test_power,
            shift=shift,
            calibrations=known_timings(context, machine, base),
            encoder=encoder,
            without_encoder=without_encoder,
            documents=len(context.documents),
            document_tokens=base_candidates.document_tokens(context, _reader_of_documents(context, base, encoder, ranker)),
            comparison=comparison,
            ranker=ranker,
            endpoint=next(hosted, None),  # a hosted model stands once in the ladder, whatever the bases
            proposer=named.proposer,
        )

    offers = base_candidates.offered(context, machine, inputs_of)
    if not base_candidates.refs_of(offers):
        raise _no_rung(context, "; ".join(f"{offer.label}: {offer.out}" for offer in offers))
    return offers


def _reader_of_documents(
    context: StepContext, base: BaseModelRef, encoder: BaseModelRef | None, ranker: PlannedRanker | None
) -> Digest | None:
    """The encoder that reads the documents for an index: the base of a ranking, that of the released one, or the installed one."""
    if context.objective.task.kind is TaskKind.RANK:
        return base.digest
    return ranker.encoder if ranker else encoder.digest if encoder else None


def _ranker(context: StepContext) -> PlannedRanker | None:
    """The release that finds passages, where the objective names one. Raises as ``find_ranker`` and ``demand_one_width``."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        found = find_ranker(work, context.file)
        ranker = planned_ranker(work, found) if found else None
    if ranker is not None:
        demand_one_width(context.deps, ranker)
    return ranker


def _with_timings(offer: planning.BaseOffer, timed: tuple[Calibration, ...]) -> planning.BaseOffer:
    return replace(offer, inputs=replace(offer.inputs, calibrations=timed)) if offer.inputs else offer


def _refuse_empty(context: StepContext, plan: Plan) -> None:
    """Raises Exhausted when nothing can be tried, with the first reason of each rung."""
    if plan.rungs or (transitions.floor_is_rung(context.objective, plan) and not (plan.floor and plan.floor.refused)):
        return
    reasons = "; ".join(f"{refusal.name}: {refusal.reason}" for refusal in plan.left_out) or "the ladder is empty"
    raise _no_rung(context, reasons)


def _no_rung(context: StepContext, reasons: str) -> Exhausted:
    return Exhausted(
        f"no rung of {context.objective.name} can be tried: {reasons}",
        "raise the budget in the objective, use a smaller base model, or see what another machine could do: tailorbird plan --what-if",
        code="no_rung",
    )


def _machine(context: StepContext) -> Machine:
    try:
        return context.deps.trainer().measure_machine()
    except Unavailable:
        return Machine(cores=1, memory_gb=1.0, training=False)


def planned(context: StepContext) -> Plan:
    """The plan, which exists once the step ``plan`` is done."""
    assert context.plan is not None
    return context.plan
