"""Sealed test: the look at it, and the release that may follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from tailorbird import release
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Split
from tailorbird.domain.effect import EffectProof
from tailorbird.domain.evidence import Evidence, GateResult, Verdict
from tailorbird.domain.label_review import ReviewSheet
from tailorbird.domain.ladder import Candidate, Choice, Climb, Conclusion, Ladder, RungKind, SealedTest
from tailorbird.domain.release import Dossier, Look, Release, ReleaseAction, ReleaseState, next_state
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.build import build_name
from tailorbird.usecases.anchored_rows import anchored_looks, anchored_splits
from tailorbird.usecases.approvals import approval_rule
from tailorbird.usecases.audit_events import Facts, record, remark
from tailorbird.usecases.climb.effect_proof import prove_effect
from tailorbird.usecases.climb.incumbent import against_incumbent
from tailorbird.usecases.climb.measurement import examine
from tailorbird.usecases.climb.metric_spec import question_of, unlike
from tailorbird.usecases.climb.provability import demand_look_money
from tailorbird.usecases.climb.regression_limits import carried
from tailorbird.usecases.climb.rungs import after_look
from tailorbird.usecases.climb.snapshot_and_plan import planned
from tailorbird.usecases.key_custody import approval_remarks
from tailorbird.usecases.label_reviews.label_review import sheet_for
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.rung_approval import allowances_of
from tailorbird.usecases.steps.step_context import StepContext, StepOutcome


def open_test(context: StepContext) -> StepOutcome:
    """Measures the chosen candidate on the sealed test; the look is counted before the test is read, and for ever. Raises Exhausted
    (``budget_spent``) where endpoints cannot be paid for it."""
    climb = chosen_climb(_ladder(context))
    candidate = context.record(Candidate, climb.candidate)
    demand_look_money(context, climb)
    look = _count_look(context, climb.candidate)
    evidence = carried(climb.evidence, examine(context, candidate, Split.TEST, look), context)
    evidence = against_incumbent(context, evidence, look)
    gate = release.apply_gate(release.GateInputs(objective=context.objective, evidence=evidence, look=look))
    context.progress.tell(f"sealed test, look {look}: {gate.verdict.value}: {gate.reason}")
    choice, reason = (Choice.STOP, "") if gate.verdict is Verdict.PASS else after_look(context, climb, evidence, gate)

    def keep(work: UnitOfWork) -> None:
        work.records.put(evidence)
        work.records.put(gate)

    digests = {"candidate": climb.candidate, "evidence": digest_of(evidence), "gate": digest_of(gate)}
    facts: Facts = {"look": look, "verdict": gate.verdict.value}
    if reason:
        facts["choice"] = choice.value
    return StepOutcome(SealedTest(**digests, look=look, choice=choice, reason=reason), facts, keep)


def conclude(context: StepContext) -> StepOutcome:
    """Drafts, signs and gates the release when the sealed test passed; says why not otherwise."""
    ladder, looks = _ladder(context), context.looks
    if ladder.chosen is None:
        last = digest_of(looks[-1]) if looks else None
        return StepOutcome(Conclusion(ladder=digest_of(ladder), test=last, release=None, reason=ladder.reason), {"release": None})
    found = looks[-1]
    gate = context.record(GateResult, found.gate)
    if gate.verdict is not Verdict.PASS:
        reason = f"the sealed test did not confirm it: {found.reason or gate.reason}"
        ended = Conclusion(ladder=digest_of(ladder), test=digest_of(found), release=None, reason=reason)
        return StepOutcome(ended, {"release": None})
    sheet = sheet_for(context, ladder, chosen_climb(ladder), context.record(Evidence, found.evidence), partial(unlike, context))
    proof = prove_effect(context, context.record(Candidate, chosen_climb(ladder).candidate))
    drafted = _draft(context, ladder, found, gate, (sheet, proof))
    ended = Conclusion(ladder=digest_of(ladder), test=digest_of(found), release=drafted.digest, reason=gate.reason)

    def keep(work: UnitOfWork) -> None:
        if sheet is not None:
            work.records.put(sheet)
        if proof is not None:
            work.records.put(proof)
        work.releases.add(drafted)
        work.releases.move(drafted.digest, ReleaseState.DRAFT, next_state(ReleaseState.DRAFT, ReleaseAction.PASS_GATE))
        now = context.deps.clock.now()
        facts: Facts = {"objective": context.objective.name, "run": context.run.id}
        record(work, "release.drafted", context.actor.name, drafted.digest, now, facts | {"build": build_name()})
        record(work, "release.gated", context.actor.name, drafted.digest, now, facts)
        for exception in context.objective.exceptions:
            told: Facts = {"rule": exception.rule, "reason": remark(work, f"{exception.by}: {exception.because}")}
            record(work, "release.excepted", context.actor.name, drafted.digest, now, told)

    return StepOutcome(ended, {"release": drafted.digest}, keep)


def _ladder(context: StepContext) -> Ladder:
    """The climb as it was closed last."""
    assert context.ladder is not None
    return context.ladder


def chosen_climb(ladder: Ladder) -> Climb:
    """The climb of the chosen candidate."""
    return next(climb for climb in ladder.measured if climb.candidate == ladder.chosen)


def _count_look(context: StepContext, candidate: Digest) -> int:
    """Records the look, and returns its number: looks of other objectives at the same test rows are paid for from one budget.

    The rows of other objectives are many, and are read before the record is held: what is found of them counts while no look was added.
    """
    tested = frozenset(row.id for row in (*context.rows(Split.TEST), *context.shifted_rows(Split.TEST), *context.outside_rows(Split.TEST)))
    name, question, ledger = context.objective.name, _question(context), context.deps.ledger
    while True:
        with ledger.work(context.run.tenant, write=False) as work:
            known = anchored_looks(work)
            shared = _looks_of_others(work, name, known, tested)
        with ledger.work(context.run.tenant) as work:
            if anchored_looks(work) != known:
                continue
            look = work.looks.add(name, context.done[transitions.SNAPSHOT], candidate, question)
            if len(work.looks.all()) > len(known):
                facts: Facts = {"look": look + shared, "objective": name, "of_other_objectives": shared}
                record(work, "test.opened", context.actor.name, candidate, context.deps.clock.now(), facts)
        return look + shared


def _question(context: StepContext) -> Digest:
    """Digest of what this look asks. What answering takes, and what a hosted model answers, is drawn anew in each run: each pays for its
    own look."""
    asked = digest_of(question_of(context))
    drawn = context.objective.limits.serving or chosen_climb(_ladder(context)).rung is RungKind.HOSTED
    return digest_of({"question": asked, "run": context.run.id}) if drawn else asked


def _looks_of_others(work: UnitOfWork, name: str, looks: Sequence[Look], tested: frozenset[Digest]) -> int:
    """How often other objectives of the tenant, whose sealed test shares rows with this one, have looked at theirs."""
    looked = Counter(look.objective_name for look in looks if look.objective_name != name)
    return sum(count for other, count in looked.items() if _tests(work, other) & tested)


def _tests(work: UnitOfWork, name: str) -> frozenset[Digest]:
    return frozenset(row for row, (split, _) in anchored_splits(work, name).items() if split == Split.TEST.value)


def _draft(
    context: StepContext, ladder: Ladder, found: SealedTest, gate: GateResult, beside: tuple[ReviewSheet | None, EffectProof | None]
) -> Release:
    sheet, proof = beside
    climb = chosen_climb(ladder)
    candidate = context.record(Candidate, climb.candidate)
    content = release.assemble(
        release.ReleaseParts(
            run=context.run,
            objective=context.objective,
            base=context.base_of(candidate),
            candidate=candidate,
            snapshot=digest_of(context.manifest),
            refer_below=climb.evidence.refer_below,
            scope=climb.evidence.scope.rule if climb.evidence.scope else None,
        )
    )
    dossier = Dossier(
        release=digest_of(content),
        plan=digest_of(planned(context)),
        ladder=digest_of(ladder),
        dev_evidence=digest_of(climb.evidence),
        test_evidence=found.evidence,
        gate=found.gate,
        gate_verdict=gate.verdict,
        card=context.deps.artifacts.put(_card(context, ladder, candidate, found, gate).encode()),
        created_at=context.deps.clock.now(),
        review=digest_of(sheet) if sheet else None,
        effect=digest_of(proof) if proof else None,
    )
    signature = context.actor.sign("release", digest_of(dossier))
    return Release(digest=digest_of(content), content=content, dossier=dossier, state=ReleaseState.DRAFT, signature=signature)


def _card_encoder(context: StepContext, candidate: Candidate) -> release.CardEncoder | None:
    """The encoder of a linear model; None of one that reads words alone."""
    plan = planned(context)
    if candidate.rung is RungKind.ENCODER and plan.encoder:
        encoder = context.record(BaseModelRef, plan.encoder)
        return release.CardEncoder(encoder.name, encoder.license, encoder.digest)
    floor = plan.floor
    return release.CardEncoder(floor.name, floor.license, floor.encoder) if floor and floor.encoder else None


def _card(context: StepContext, ladder: Ladder, candidate: Candidate, found: SealedTest, gate: GateResult) -> str:
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        remarks, rule = approval_remarks(context.deps, work), approval_rule(work, context.objective)
        allowances = allowances_of(work, context.run.id)
    return release.model_card(
        release.CardFacts(
            objective=context.objective,
            manifest=context.manifest,
            base=context.base_of(candidate),
            candidate=candidate,
            ladder=ladder,
            test_evidence=context.record(Evidence, found.evidence),
            gate=gate,
            rule=rule,
            encoder=_card_encoder(context, candidate),
            approval_remarks=remarks,
            allowances=allowances,
        )
    )
