"""The end of a run: a look at the sealed test, and the release it may lead to.

In: a stage whose climb is over. Out: the sealed test's finding, and whether the climb goes on where it confirms nothing; a signed release
that passed its gate, or the reason why there is none. Must not know: how a release is approved or served.
"""

from __future__ import annotations

from functools import partial

from tailorbird import release
from tailorbird.domain.dataset import Split
from tailorbird.domain.evidence import Evidence, GateResult, Verdict
from tailorbird.domain.ladder import Candidate, Choice, Climb, Conclusion, Ladder, SealedTest
from tailorbird.domain.release import Dossier, Release, ReleaseAction, ReleaseState, next_state
from tailorbird.domain.review import ReviewSheet
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_of
from tailorbird.lifecycle.climbing.climb import after_look, examine
from tailorbird.lifecycle.climbing.incumbent import against_incumbent
from tailorbird.lifecycle.climbing.measuring import question_of, unlike
from tailorbird.lifecycle.climbing.prepare import planned
from tailorbird.lifecycle.climbing.safety import carried
from tailorbird.lifecycle.journal import Facts, record, remark
from tailorbird.lifecycle.releasing.reviewing import sheet_for
from tailorbird.lifecycle.steps import story
from tailorbird.lifecycle.steps.stage import Outcome, Stage
from tailorbird.ports.ledger import UnitOfWork


def open_test(stage: Stage) -> Outcome:
    """Measures the chosen candidate on the sealed test; the look is counted before the test is read, and for ever."""
    climb = chosen_climb(_ladder(stage))
    candidate = stage.record(Candidate, climb.candidate)
    look = _count_look(stage, climb.candidate)
    evidence = carried(climb.evidence, examine(stage, candidate, Split.TEST, look), stage)
    evidence = against_incumbent(stage, evidence, look)
    gate = release.judge(release.GateInputs(objective=stage.objective, evidence=evidence, look=look))
    choice, reason = (Choice.STOP, "") if gate.verdict is Verdict.PASS else after_look(stage, climb, evidence, gate)

    def keep(work: UnitOfWork) -> None:
        work.records.put(evidence)
        work.records.put(gate)

    digests = {"candidate": climb.candidate, "evidence": digest_of(evidence), "gate": digest_of(gate)}
    facts: Facts = {"look": look, "verdict": gate.verdict.value}
    if reason:
        facts["choice"] = choice.value
    return Outcome(SealedTest(**digests, look=look, choice=choice, reason=reason), facts, keep)


def conclude(stage: Stage) -> Outcome:
    """Drafts, signs and gates the release when the sealed test passed; says why not otherwise."""
    ladder, looks = _ladder(stage), stage.looks
    if ladder.chosen is None:
        last = digest_of(looks[-1]) if looks else None
        return Outcome(Conclusion(ladder=digest_of(ladder), test=last, release=None, reason=ladder.reason), {"release": None})
    found = looks[-1]
    gate = stage.record(GateResult, found.gate)
    if gate.verdict is not Verdict.PASS:
        reason = f"the sealed test did not confirm it: {found.reason or gate.reason}"
        ended = Conclusion(ladder=digest_of(ladder), test=digest_of(found), release=None, reason=reason)
        return Outcome(ended, {"release": None})
    sheet = sheet_for(stage, ladder, chosen_climb(ladder), stage.record(Evidence, found.evidence), partial(unlike, stage))
    drafted = _draft(stage, ladder, found, gate, sheet)
    ended = Conclusion(ladder=digest_of(ladder), test=digest_of(found), release=drafted.digest, reason=gate.reason)

    def keep(work: UnitOfWork) -> None:
        if sheet is not None:
            work.records.put(sheet)
        work.releases.add(drafted)
        work.releases.move(drafted.digest, ReleaseState.DRAFT, next_state(ReleaseState.DRAFT, ReleaseAction.PASS_GATE))
        now = stage.parts.clock.now()
        for kind in ("release.drafted", "release.gated"):
            record(work, kind, stage.actor.name, drafted.digest, now, {"objective": stage.objective.name, "run": stage.run.id})
        for exception in stage.objective.exceptions:
            told: Facts = {"rule": exception.rule, "reason": remark(work, f"{exception.by}: {exception.because}")}
            record(work, "release.excepted", stage.actor.name, drafted.digest, now, told)

    return Outcome(ended, {"release": drafted.digest}, keep)


def _ladder(stage: Stage) -> Ladder:
    """The climb as it was closed last."""
    assert stage.ladder is not None
    return stage.ladder


def chosen_climb(ladder: Ladder) -> Climb:
    """The climb of the chosen candidate."""
    return next(climb for climb in ladder.measured if climb.candidate == ladder.chosen)


def _count_look(stage: Stage, candidate: Digest) -> int:
    """Records the look, and returns its number: looks of other objectives at the same test rows are paid for from one budget."""
    tested = frozenset(row.id for row in (*stage.rows(Split.TEST), *stage.shifted_rows(Split.TEST)))
    question = digest_of(question_of(stage))
    with stage.parts.ledger.work(stage.run.tenant) as work:
        before = work.looks.count(stage.objective.name)
        look = work.looks.add(stage.objective.name, stage.done[story.SNAPSHOT], candidate, question)
        shared = _looks_of_others(work, stage.objective.name, tested)
        if look > before:
            facts: Facts = {"look": look + shared, "objective": stage.objective.name, "of_other_objectives": shared}
            record(work, "test.opened", stage.actor.name, candidate, stage.parts.clock.now(), facts)
    return look + shared


def _looks_of_others(work: UnitOfWork, name: str, tested: frozenset[Digest]) -> int:
    """How often other objectives of the tenant, whose sealed test shares rows with this one, have looked at theirs."""
    others = {run.objective_name for run in work.runs.all()} - {name}
    looked = {other: count for other in others if (count := work.looks.count(other))}
    return sum(count for other, count in looked.items() if _tests(work, other) & tested)


def _tests(work: UnitOfWork, name: str) -> frozenset[Digest]:
    return frozenset(row for row, (split, _) in work.splits.assigned(name).items() if split == Split.TEST.value)


def _draft(stage: Stage, ladder: Ladder, found: SealedTest, gate: GateResult, sheet: ReviewSheet | None) -> Release:
    climb = chosen_climb(ladder)
    candidate = stage.record(Candidate, climb.candidate)
    content = release.assemble(
        release.ReleaseParts(
            run=stage.run,
            objective=stage.objective,
            base=stage.base_of(candidate),
            candidate=candidate,
            snapshot=digest_of(stage.manifest),
            refer_below=climb.evidence.refer_below,
        )
    )
    dossier = Dossier(
        release=digest_of(content),
        plan=digest_of(planned(stage)),
        ladder=digest_of(ladder),
        dev_evidence=digest_of(climb.evidence),
        test_evidence=found.evidence,
        gate=found.gate,
        gate_verdict=gate.verdict,
        card=stage.parts.artifacts.put(_card(stage, ladder, candidate, found, gate).encode()),
        created_at=stage.parts.clock.now(),
        review=digest_of(sheet) if sheet else None,
    )
    signature = stage.actor.sign("release", digest_of(dossier))
    return Release(digest=digest_of(content), content=content, dossier=dossier, state=ReleaseState.DRAFT, signature=signature)


def _card(stage: Stage, ladder: Ladder, candidate: Candidate, found: SealedTest, gate: GateResult) -> str:
    return release.model_card(
        release.CardFacts(
            objective=stage.objective,
            manifest=stage.manifest,
            base=stage.base_of(candidate),
            candidate=candidate,
            ladder=ladder,
            test_evidence=stage.record(Evidence, found.evidence),
            gate=gate,
            rule=release.rule_for(stage.objective),
            floor=planned(stage).floor,
        )
    )
