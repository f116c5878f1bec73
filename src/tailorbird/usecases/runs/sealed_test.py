"""Sealed test: the look at it, and the release that may follow, with its proof of effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tailorbird import release
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import EffectProof, Evidence, GateResult, ReferenceProbe, TokenChances, Verdict, chances_of_labels
from tailorbird.domain.label_review import DATA_ANSWERS, ReviewSheet
from tailorbird.domain.ladder import Candidate, Choice, Climb, Conclusion, Ladder, RungKind, SealedTest
from tailorbird.domain.objective import RiskTier, TaskKind
from tailorbird.domain.prompt import Message
from tailorbird.domain.release import Dossier, Release, ReleaseAction, ReleaseState, next_state
from tailorbird.domain.run import SNAPSHOT
from tailorbird.domain.value import Digest
from tailorbird.ledger import UnitOfWork
from tailorbird.ports.engine import Engine, ProbeRequest
from tailorbird.rungs import module_kinds, without_kind
from tailorbird.system.files import private_folder
from tailorbird.system.process import build_name
from tailorbird.usecases.anchored_rows import anchored_looks, anchored_splits
from tailorbird.usecases.audit_events import Facts, record, remark
from tailorbird.usecases.label_review import below
from tailorbird.usecases.maintenance.health import approval_remarks
from tailorbird.usecases.releases.rules import approval_rule
from tailorbird.usecases.runs.climb import after_look
from tailorbird.usecases.runs.context import StepContext, StepOutcome
from tailorbird.usecases.runs.measurement import SealedQuestion, against_incumbent, carried, comparison_of, examine, loaded, unlike
from tailorbird.usecases.runs.provability import demand_look_money
from tailorbird.usecases.runs.record import allowances_of

#: Decimals of a nat that are kept.
_DECIMALS = 4


def effect_proof(engine: Engine, servable: Servable, place: Path) -> EffectProof:
    """What the adapter or the weights of ``servable`` change; where it has none, how its base answers or what it scores. Variants of an
    adapter are written below ``place``, and removed.

    No row of data is read: the probes are written for this project, and a single token is looked at of each answer.
    """
    # An adapter's base is asked by the same servable; that of full weights is another model.
    base = servable.model_copy(update={"id": digest_of({"base of": servable.id}), "weights": None})
    sides = (servable, base) if servable.weights else (servable,)
    try:
        with loaded(engine, *sides):
            measured = _Measurement(engine, servable, base, place)
            found = {"scores": measured.scores, "base": measured.of_base}.get(_kind(servable), measured.proof)()
    except InvalidInput as error:
        found = EffectProof(unprovable=f"the probes cannot be asked ({error.error_code})")
    return found.model_copy(update={"engine": engine.fingerprint(), "kind": _kind(servable)})


def _kind(servable: Servable) -> str:
    if servable.floor is not None:
        return "scores"
    return "weights" if servable.weights else "adapter" if servable.adapter else "base"


class _Measurement:
    """Probes asked of one candidate, its base, and variants of its adapter."""

    def __init__(self, engine: Engine, servable: Servable, base: Servable, place: Path) -> None:
        self._engine, self._servable, self._place = engine, servable, place
        self._base = base if servable.weights else servable

    def proof(self) -> EffectProof:
        """The proof from the best probes. Raises InvalidInput where the model has no room for them."""
        base, candidate = (self._asked(release.PROBE_TEXTS, bare=bare) for bare in (True, False))
        sides = zip(release.PROBE_TEXTS, base, candidate, strict=True)
        probes = [ReferenceProbe(text=text, base=before, candidate=after) for text, before, after in sides]
        probes = [probes[place] for place in release.shortlist(probes)]
        texts = [probe.text for probe in probes]
        again = [(ask(texts, bare=True), ask(texts, bare=False)) for ask in (self._one_by_one, self._in_company)]
        return release.choose(probes, self._parts(texts), again)

    def of_base(self) -> EffectProof:
        """The proof of a prompt: how its base answers. Raises InvalidInput."""
        probes = _alike(release.PROBE_TEXTS, self._asked(release.PROBE_TEXTS))
        texts = [probe.text for probe in probes]
        return release.choose_of_base(probes, [ask(texts, bare=False) for ask in (self._one_by_one, self._in_company)])

    def scores(self) -> EffectProof:
        """The proof of a floor or an encoder: its scores of its labels."""
        labels = self._servable.prompt.answers
        found = self._engine.score(self._servable.id, [_question(text) for text in release.PROBE_TEXTS], labels)
        told = [_rounded(chances_of_labels(labels, one.log_probabilities)) for one in found]
        return release.choose_of_scores(_alike(release.PROBE_TEXTS, told), labels)

    def _asked(self, texts: Sequence[str], *, bare: bool = False, servable: Servable | None = None) -> list[TokenChances]:
        prompts = tuple(map(_question, texts))
        whom = servable or (self._base if bare else self._servable)
        asked = ProbeRequest(release=whom.id, prompts=prompts, bare=bare and whom.adapter is not None)
        return [_rounded(chances) for chances in self._engine.probe(asked)]

    def _one_by_one(self, texts: Sequence[str], *, bare: bool) -> list[TokenChances]:
        return [chances for text in texts for chances in self._asked([text], bare=bare)]

    def _in_company(self, texts: Sequence[str], *, bare: bool) -> list[TokenChances]:
        """The same, behind others in the batch and in another order."""
        others = release.PROBE_TEXTS[: len(texts)]
        return self._asked([*others, *reversed(texts)], bare=bare)[: -len(texts) - 1 : -1]

    def _parts(self, texts: Sequence[str]) -> dict[str, list[TokenChances]]:
        """The candidate without each kind of module that it changes; where it changes one kind, that is its base."""
        adapter = Path(str(self._servable.adapter))
        kinds = module_kinds(adapter) if self._servable.adapter else ()
        if len(kinds) < 2:
            return {kind: self._asked(texts, bare=True) for kind in kinds}
        with TemporaryDirectory(dir=self._place) as folder:
            return {kind: self._lacking(without_kind(adapter, Path(folder) / kind, kind), texts) for kind in kinds}

    def _lacking(self, adapter: Path, texts: Sequence[str]) -> list[TokenChances]:
        named = digest_of({"of": self._servable.id, "without": adapter.name})
        servable = self._servable.model_copy(update={"id": named, "adapter": str(adapter)})
        with loaded(self._engine, servable):
            return self._asked(texts, servable=servable)


def _question(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _alike(texts: Sequence[str], told: Sequence[TokenChances]) -> list[ReferenceProbe]:
    return [ReferenceProbe(text=text, base=one, candidate=one) for text, one in zip(texts, told, strict=True)]


def _rounded(chances: TokenChances) -> TokenChances:
    return chances.model_copy(update={"nats": tuple(round(nats, _DECIMALS) for nats in chances.nats)})


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
    sheet = _review_sheet(context, ladder, context.record(Evidence, found.evidence))
    # What ``candidate`` changes in its base, or how it answers where nothing was trained in one, by the engine that measured
    # it; None for a ranker and for a hosted model.
    candidate = context.record(Candidate, chosen_climb(ladder).candidate)
    if candidate.hosted is not None or context.objective.task.kind is TaskKind.RANK:
        proof: EffectProof | None = None
    else:
        context.progress.tell("measuring how the candidate answers synthetic probes")
        place = private_folder(context.deps.scratch(context.run.id) or context.folder)
        proof = effect_proof(context.deps.engine(), context.servable(candidate), place)
    drafted = _draft(context, ladder, found, gate, sheet, proof)
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


def _review_sheet(context: StepContext, ladder: Ladder, test: Evidence) -> ReviewSheet | None:
    """What people are asked about the chosen candidate: where it differs from the release that answers now; for the first release of a
    high-risk objective, from the rung below it (the floor where it is the first), or else from the answers in the data."""
    climb, ours = chosen_climb(ladder), test
    if test.incumbent is not None and test.incumbent_release is not None:
        against = f"release {short(test.incumbent_release)}, which answers now"
        with context.deps.ledger.work(context.run.tenant, write=False) as work:
            refer_below = work.releases.get(test.incumbent_release).content.refer_below
        other = test.model_copy(update={"items": test.incumbent, "refer_below": refer_below})
    elif context.objective.business.risk is not RiskTier.HIGH:
        return None
    else:
        ours, lower = climb.evidence, below(ladder, climb)
        if lower is None:
            items = context.items(ours.items)
            theirs = tuple(item.model_copy(update={"prediction": item.target}) for item in items)
            wrong = frozenset(item.item for item in items if not item.correct)
            disagreement = release.Disagreement(items, theirs, ours.split.value, wrong)
            return release.draw_sheet(context.objective, digest_of(context.manifest), DATA_ANSWERS, disagreement)
        against, other = f"{lower.rung.value} {lower.variant}", lower.evidence
    found = release.Disagreement(context.items(ours.items), context.items(other.items), ours.split.value, unlike(context, ours, other))
    return release.draw_sheet(context.objective, digest_of(context.manifest), against, found)


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
    # Digest of what this look asks. What answering takes, and what a hosted model answers, is drawn anew in each run: each
    # pays for its own look.
    # Question of this run.
    objective, compared = context.objective, comparison_of(context)
    asked = digest_of(
        SealedQuestion(
            targets=tuple(sorted((kpi.metric, kpi.target) for kpi in objective.kpis)),
            confidence=objective.business.risk.confidence,
            max_error=objective.referral.max_error if objective.referral else None,
            refer_pattern=objective.referral.pattern if objective.referral else None,
            max_drop=objective.limits.shift.max_drop if objective.limits.shift else None,
            compared_on=compared.metric,
            margin=compared.margin,
        )
    )
    drawn = context.objective.limits.serving or chosen_climb(_ladder(context)).rung is RungKind.HOSTED
    name, question, ledger = (
        context.objective.name,
        (digest_of({"question": asked, "run": context.run.id}) if drawn else asked),
        context.deps.ledger,
    )
    while True:
        with ledger.work(context.run.tenant, write=False) as work:
            known = anchored_looks(work)
            looked, shared = Counter(look.objective_name for look in known if look.objective_name != name), 0
            for other, times in looked.items():
                if any(split == Split.TEST.value and row in tested for row, (split, _) in anchored_splits(work, other).items()):
                    shared += times
        with ledger.work(context.run.tenant) as work:
            if anchored_looks(work) != known:
                continue
            look = work.looks.add(name, context.done[SNAPSHOT], candidate, question)
            if len(work.looks.all()) > len(known):
                facts: Facts = {"look": look + shared, "objective": name, "of_other_objectives": shared}
                record(work, "test.opened", context.actor.name, candidate, context.deps.clock.now(), facts)
        return look + shared


def _draft(
    context: StepContext, ladder: Ladder, found: SealedTest, gate: GateResult, sheet: ReviewSheet | None, proof: EffectProof | None
) -> Release:
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
        plan=digest_of(context.planned),
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
    plan = context.planned
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
