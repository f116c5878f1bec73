"""First steps of a run: data snapshot, base models, plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tailorbird import data, planning
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Exhausted, Unavailable
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Machine, Plan, PlannedRanker, ShiftPower
from tailorbird.domain.preflight import PreflightFinding, PreflightSeverity
from tailorbird.domain.timing import Calibration
from tailorbird.domain.value import Digest
from tailorbird.objective import check_labels, check_origins, check_power, check_shift_power
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.text.known_templates import DEFAULT, TEMPLATES
from tailorbird.usecases.anchored_rows import anchored_splits
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.climb import base_candidates, base_probe
from tailorbird.usecases.climb.contradicting_labels import contradicting_labels_finding
from tailorbird.usecases.climb.incumbent import foreseen, incumbent_finding
from tailorbird.usecases.climb.metric_spec import ItemsOf, comparison_of, groups_of, items_of
from tailorbird.usecases.climb.preflight import examine_rungs, heeded
from tailorbird.usecases.climb.provability import check_provable, thin_labels_finding, trivial_target_finding, untested_answers_finding
from tailorbird.usecases.climb.timing import known_timings, time_steps
from tailorbird.usecases.climb.training_reuse import reused_trainings, with_reuse
from tailorbird.usecases.endpoints import named_endpoints
from tailorbird.usecases.released_ranker import demand_one_width, find_ranker, planned_ranker
from tailorbird.usecases.snapshots.amendments import amendments_of, manifests_of
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext, StepOutcome


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
    if why_not := base_probe.why_not_probed(context, [rung for _, rung in able.values()]):
        context.progress.tell(f"the base models are not probed: {why_not}")
        return offers
    found = base_probe.probe_bases(context, able)
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
