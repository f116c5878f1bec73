"""A second release is compared with the one that answers, judged by people, and only then staged."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import VIEWER, write_disputed, write_objective
from tailorbird.domain.errors import Conflict, Forbidden, NotFound
from tailorbird.domain.evidence import Evidence, GateResult, Verdict
from tailorbird.domain.label_review import Mark, ReviewSheet
from tailorbird.domain.ladder import SealedTest
from tailorbird.release import candidate_side
from tailorbird.usecases import Actor, Dependencies, Progress, label_review
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.registry import perform
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.releases.release_queries import show_quorum
from tailorbird.usecases.runs import submit as climbing


@pytest.fixture
def reviewers(deps: Dependencies) -> list[Actor]:
    return [act_as(deps, "acme", name) for name in ("reviewer", "approver")]


@pytest.fixture
def release(deps: Dependencies, author: Actor, tmp_path: Path) -> str:
    """The first release of a high-risk objective."""
    ended = climbing.adapt(deps, author, write_disputed(tmp_path / "risky"), Progress())
    assert ended.conclusion is not None
    assert ended.conclusion.release is not None, ended.conclusion
    return ended.conclusion.release


def side_of_candidate(deps: Dependencies, reviewer: str, release: str, number: int) -> Mark:
    with deps.ledger.work("acme", write=False) as work:
        digest = work.releases.get(release).dossier.review
        assert digest is not None
        sheet = work.records.get(ReviewSheet, digest)
    return Mark(candidate_side(sheet, reviewer, sheet.items[number - 1]))


def test_a_high_risk_release_waits_for_two_reviewers(deps: Dependencies, operator: Actor, reviewers: list[Actor], release: str) -> None:
    for actor in reviewers:
        promotion.sign_and_decide(deps, actor, release, "approve", "read")
    with pytest.raises(Forbidden) as caught:
        promotion.stage(deps, operator, release)
    assert caught.value.error_code == "review_missing"
    for actor in reviewers:
        shown = label_review.next_shown(deps, actor, release)
        while shown.number:
            assert shown.text
            assert {shown.left, shown.right} == {"login", "refund"}
            mark = side_of_candidate(deps, actor.name, release, shown.number)
            shown = label_review.judge(deps, actor, release, shown.number, mark, "")
    found = label_review.show_review(deps, VIEWER, release)
    assert found.result is not None
    assert found.result.verdict is Verdict.PASS, found.result
    assert promotion.stage(deps, operator, release).state.value == "staged"


def test_reviewers_who_agree_with_the_data_do_not_bar_a_first_release(
    deps: Dependencies, author: Actor, reviewers: list[Actor], tmp_path: Path
) -> None:
    """Nothing but the floor was measured: what people are shown are its errors, whose count stands in the evidence."""
    ended = climbing.adapt(deps, author, write_disputed(tmp_path / "risky", ladder=["floor"], target=0.6), Progress())
    assert ended.conclusion is not None
    release = ended.conclusion.release
    assert release is not None, ended.conclusion
    for actor in reviewers:
        shown = label_review.next_shown(deps, actor, release)
        assert shown.number
        while shown.number:
            wrong = side_of_candidate(deps, actor.name, release, shown.number)
            mark = Mark.LEFT if wrong is Mark.RIGHT else Mark.RIGHT
            shown = label_review.judge(deps, actor, release, shown.number, mark, "")
    found = label_review.show_review(deps, VIEWER, release)
    assert found.result is not None
    assert (found.result.verdict, found.result.win_rate.value) == (Verdict.PASS, 0)
    needed = show_quorum(deps, VIEWER, release)
    assert (needed.review, needed.reviewed) == ("", found.result.reason), "those who decide see it beside the approvals"
    assert "side with the candidate in 0% of them" in needed.reviewed


def test_the_author_may_not_review_and_nothing_is_judged_twice(
    deps: Dependencies, author: Actor, operator: Actor, reviewers: list[Actor], release: str
) -> None:
    with pytest.raises(Forbidden):
        label_review.next_shown(deps, author, release)
    both = deps.ledger
    with both.work("acme") as work:
        from tailorbird.domain.identity import Role

        work.identities.replace(author.identity.model_copy(update={"roles": author.identity.roles | {Role.REVIEWER}}))
    with pytest.raises(Forbidden) as caught:
        label_review.judge(deps, act_as(deps, "acme", "author"), release, 1, Mark.LEFT, "")
    assert caught.value.error_code == "own_release"
    with pytest.raises(Forbidden):
        perform(deps, operator, label_review.next_shown, digest=release)
    label_review.judge(deps, reviewers[0], release, 1, Mark.TIE, "")
    with pytest.raises(Conflict):
        label_review.judge(deps, reviewers[0], release, 1, Mark.LEFT, "")
    with pytest.raises(NotFound):
        label_review.judge(deps, reviewers[0], release, 1000, Mark.LEFT, "")


def test_what_replaces_a_release_is_measured_against_it(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    first = climbing.adapt(
        deps, author, write_objective(tmp_path / "job", hard_share=6, kpis=[{"metric": "accuracy", "target": 0.7}]), Progress()
    )
    assert first.conclusion is not None
    assert first.conclusion.release is not None
    promotion.sign_and_decide(deps, approver, first.conclusion.release, "approve", "read")
    promotion.stage(deps, operator, first.conclusion.release)
    promotion.promote(deps, operator, first.conclusion.release)
    path = write_objective(tmp_path / "job", hard_share=6, kpis=[{"metric": "accuracy", "target": 0.7}], ladder=["lora"])
    second = climbing.adapt(deps, author, path, Progress())
    assert second.conclusion is not None
    assert second.conclusion.test is not None
    with deps.ledger.work("acme", write=False) as work:
        test = work.records.get(SealedTest, second.conclusion.test)
        evidence, gate = work.records.get(Evidence, test.evidence), work.records.get(GateResult, test.gate)
    assert evidence.incumbent_release == first.conclusion.release
    (finding,) = [finding for finding in gate.findings if finding.name == "against_incumbent"]
    # The twins answer alike whatever the weights: no difference, and with it nothing to ask people about.
    assert (finding.value, finding.verdict) == (0, Verdict.PASS)
    assert second.conclusion.release is not None
    assert not label_review.show_review(deps, VIEWER, second.conclusion.release).required
    with pytest.raises(NotFound, match="needs no label review"):
        label_review.next_shown(deps, approver, second.conclusion.release)
