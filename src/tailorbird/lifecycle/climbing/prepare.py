"""The first steps of a run: freeze the data, fetch the base models, plan the climb.

In: a stage. Out: a snapshot manifest; a plan. Must not know: rungs, training, engines' insides.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tailorbird import data, planning
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.calibration import Calibration
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Exhausted, Unavailable
from tailorbird.domain.plan import Machine, Plan, ShiftPower
from tailorbird.foundations.canonical import digest_of
from tailorbird.lifecycle.climbing import bases, encoders, probing
from tailorbird.lifecycle.climbing.calibrating import known_timings, time_steps
from tailorbird.lifecycle.climbing.examining import examine_rungs, heeded
from tailorbird.lifecycle.climbing.foreseeing import foreseen, incumbent_finding
from tailorbird.lifecycle.climbing.measuring import comparison_of, groups_of
from tailorbird.lifecycle.climbing.provable import check_provable
from tailorbird.lifecycle.data.heeding import amendments_of, manifests_of
from tailorbird.lifecycle.journal import Facts
from tailorbird.lifecycle.steps import story
from tailorbird.lifecycle.steps.stage import Outcome, Stage
from tailorbird.objective import check_labels, check_origins, check_power, check_shift_power
from tailorbird.ports.ledger import UnitOfWork


def take_snapshot(stage: Stage) -> Outcome:
    """Reads, cleans, splits and freezes the data; refuses KPIs that the data cannot prove, before anything is spent."""
    with stage.parts.ledger.work(stage.run.tenant, write=False) as work:
        known = work.splits.assigned(stage.objective.name)
        rules = [found.shift.rule for found in manifests_of(work, stage.objective.name).values() if found.shift]
    built = data.build_snapshot(
        data.SnapshotRequest(
            objective=stage.objective,
            folder=Path(stage.file.folder),
            artifacts=stage.parts.artifacts,
            known=known,
            progress=stage.progress.tell,
            amendments=amendments_of(stage.parts, stage.objective),
            detectors=stage.parts.detectors,
            memory=stage.parts.curations(stage.run.tenant) / stage.objective.name,
            shift=rules[-1] if rules else None,
        )
    )
    check_origins(stage.file, built.manifest.files)
    check_labels(stage.file, built.manifest)
    check_power(stage.file, built.manifest, groups_of(stage, built.manifest))
    _power_on_shifted(stage, built.manifest)
    check_provable(stage, built.manifest)

    def remember(work: UnitOfWork) -> None:
        work.splits.remember(stage.objective.name, {row: place for row, place in built.assigned.items() if row not in known})

    counts = built.manifest.counts
    split: Facts = {"train": counts.train, "dev": counts.dev, "test": counts.test}
    return Outcome(built.manifest, split | {"duplicates": built.manifest.duplicates, "quarantined": built.manifest.quarantined}, remember)


def _power_on_shifted(stage: Stage, manifest: SnapshotManifest) -> tuple[ShiftPower, ...]:
    """What the shifted part can prove. Raises ObjectiveInvalid as ``check_shift_power``."""
    sizes = groups_of(stage, manifest, shifted=True)
    return check_shift_power(stage.file, manifest, lambda split: sizes(split, None))


def make_plan(stage: Stage) -> Outcome:
    """Drafts the plan, times steps of what is costly enough, examines what it would train, and freezes it.

    Raises InvalidInput when nothing of it could be trained, Exhausted when the budget affords no rung.
    """
    offers = with_probes(stage, offers_of(stage))
    refs = bases.refs_of(offers)
    timed = time_steps(stage, planning.make_ladder(offers), refs)
    draft = planning.make_ladder([_with_timings(offer, timed) for offer in offers])
    _refuse_empty(stage, draft)
    plan = _with_incumbent(stage, heeded(draft, examine_rungs(stage, draft, refs)))
    for finding in plan.findings:
        stage.progress.tell(f"{finding.severity.value} [{finding.code}]: {finding.what}: {finding.remedy}")
    facts: Facts = {"rungs": len(plan.rungs), "left_out": len(plan.left_out), "findings": len(plan.findings), "timed": len(timed)}

    def keep(work: UnitOfWork) -> None:
        for value in (*refs.values(), *timed):
            work.records.put(value)

    return Outcome(plan, facts, keep)


def _with_incumbent(stage: Stage, plan: Plan) -> Plan:
    """The plan with what can be proven against the release that answers now, and a finding where that is too little."""
    found = foreseen(stage)
    finding = incumbent_finding(found, comparison_of(stage))
    return plan.model_copy(update={"incumbent": found, "findings": plan.findings + ((finding,) if finding else ())})


def with_probes(stage: Stage, offers: tuple[planning.Offer, ...]) -> tuple[planning.Offer, ...]:
    """The offers with what their bases do untrained, where there are several to choose between and asking them is cheap enough."""
    able = planning.probed(offers)
    if len(able) < 2:
        return offers
    if why_not := probing.why_not_probed(stage, [rung for _, rung in able.values()]):
        stage.progress.tell(f"the base models are not probed: {why_not}")
        return offers
    found = probing.probe_bases(stage, able)
    return tuple(replace(offer, probe=found.get(offer.label)) for offer in offers)


def draft_plan(stage: Stage) -> tuple[Plan, bases.Refs]:
    """Fetches the base models, measures the machine, and plans without timing anything; and the base models."""
    offers = offers_of(stage)
    return planning.make_ladder(offers), bases.refs_of(offers)


def offers_of(stage: Stage) -> tuple[planning.Offer, ...]:
    """Everything a plan rests on, for each base model that the objective lists; of timed steps, those that this machine has in the record.

    Raises Exhausted (``no_rung``) where no base needs to be fetched.
    """
    stage.progress.tell("measuring this machine")
    dev_power, test_power = check_power(stage.file, stage.manifest, groups_of(stage, stage.manifest))
    shift = _power_on_shifted(stage, stage.manifest)
    machine, (encoder, without_encoder), comparison = _machine(stage), encoders.encoder_for(stage), comparison_of(stage)

    def inputs_of(base: BaseModelRef) -> planning.PlanInputs:
        return planning.PlanInputs(
            objective=stage.objective,
            objective_digest=stage.run.objective,
            snapshot=digest_of(stage.manifest),
            manifest=stage.manifest,
            base=base,
            machine=machine,
            tokens=bases.token_profile(stage, base),
            prices=stage.parts.prices,
            dev_power=dev_power,
            test_power=test_power,
            shift=shift,
            calibrations=known_timings(stage, machine, base),
            encoder=encoder,
            without_encoder=without_encoder,
            documents=len(stage.documents),
            comparison=comparison,
        )

    offers = bases.offered(stage, machine, inputs_of)
    if not bases.refs_of(offers):
        raise _no_rung(stage, "; ".join(f"{offer.label}: {offer.out}" for offer in offers))
    return offers


def _with_timings(offer: planning.Offer, timed: tuple[Calibration, ...]) -> planning.Offer:
    return replace(offer, inputs=replace(offer.inputs, calibrations=timed)) if offer.inputs else offer


def _refuse_empty(stage: Stage, plan: Plan) -> None:
    """Raises Exhausted when nothing can be tried, with the first reason of each rung."""
    if plan.rungs or (story.floor_is_rung(stage.objective, plan) and not (plan.floor and plan.floor.refused)):
        return
    reasons = "; ".join(f"{refusal.rung.value} {refusal.reason}" for refusal in plan.left_out) or "the ladder is empty"
    raise _no_rung(stage, reasons)


def _no_rung(stage: Stage, reasons: str) -> Exhausted:
    return Exhausted(
        f"no rung of {stage.objective.name} can be tried: {reasons}",
        "raise the budget in the objective, use a smaller base model, or see what another machine could do: tailorbird plan --what-if",
        code="no_rung",
    )


def _machine(stage: Stage) -> Machine:
    try:
        return stage.parts.trainer().measure_machine()
    except Unavailable:
        return Machine(cores=1, memory_gb=1.0, training=False)


def planned(stage: Stage) -> Plan:
    """The plan, which exists once the step ``plan`` is done."""
    assert stage.plan is not None
    return stage.plan
