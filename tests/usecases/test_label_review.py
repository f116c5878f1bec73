"""A second release is compared with the one that answers, judged by people, and only then staged."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import VIEWER, write_disputed
from tailorbird.domain.errors import Conflict, Forbidden, NotFound
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.label_review import Mark, ReviewSheet
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
    assert found.result.verdict is Verdict.PASS, found.result
    assert promotion.stage(deps, operator, release).state.value == "staged"


def test_reviewers_who_agree_with_the_data_do_not_bar_a_first_release(
    deps: Dependencies, author: Actor, reviewers: list[Actor], tmp_path: Path
) -> None:
    """Nothing but the floor was measured: what people are shown are its errors, whose count stands in the evidence."""
    ended = climbing.adapt(deps, author, write_disputed(tmp_path / "risky", ladder=["floor"], target=0.6), Progress())
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
