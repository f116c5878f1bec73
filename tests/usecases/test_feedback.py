"""Labels that people give are those of the release that answered, however they are spelt."""

from __future__ import annotations

import pytest

from support.ledger_samples import request as request_row
from support.serving import CLASSIFY, make_release
from support.usecases import somebody
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind, Review, ReviewReason
from tailorbird.domain.objective import TaskKind
from tailorbird.usecases import Dependencies
from tailorbird.usecases.feedback import give_feedback, settle_review
from tailorbird.usecases.identities import act_as


def answer(deps: Dependencies, prediction: str, **of_prompt: object) -> str:
    """A request that a release answered, and that waits for people."""
    release = make_release("acme", 1, TaskKind.CLASSIFY, deps.clock.now(), prompt=CLASSIFY.model_copy(update=of_prompt))
    row = request_row("acme", 1).model_copy(update={"release": release.digest, "prediction": prediction, "at": deps.clock.now()})
    with deps.ledger.work("acme") as work:
        work.releases.add(release)
        work.requests.add([row])
        review = Review(tenant="acme", request=row.id, alias="acme/routing", reason=ReviewReason.SAMPLE, queued_at=deps.clock.now())
        work.reviews.add([review])
    return row.id


def say(deps: Dependencies, request: str, label: str) -> tuple[str, float | None]:
    filed = give_feedback(deps, somebody("key"), FeedbackGiven(request=request, kind=FeedbackKind.LABEL, value=label))
    return filed.value, filed.score


def test_a_label_is_taken_as_the_release_spells_it(deps: Dependencies) -> None:
    asked = answer(deps, "refund")
    said = [say(deps, asked, label) for label in ("refund", " Refund ", "TOP_UP", "none")]
    assert said == [("refund", 1.0), ("refund", 1.0), ("top_up", 0.0), ("none", 0.0)]


@pytest.mark.parametrize("label", ["refnud", "refund | top_up", " "])
def test_a_label_that_the_release_has_not_is_refused(deps: Dependencies, label: str) -> None:
    """It would count as a wrong answer, against accuracy and against a release in a rollout."""
    asked = answer(deps, "refund")
    with pytest.raises(InvalidInput) as refused:
        say(deps, asked, label)
    assert refused.value.error_code == "label_unknown"
    with deps.ledger.work("acme", write=False) as work:
        assert work.feedback.of(asked) == ()


def test_sets_of_labels_are_compared_as_sets(deps: Dependencies) -> None:
    asked = answer(deps, "refund | top_up", label_sets=("refund | top_up", "refund", "none"))
    assert say(deps, asked, "Top_up | refund") == ("refund | top_up", 1.0)
    assert say(deps, asked, "None") == ("none", 0.0)
    for unknown in ("refund | topup", " ", "|", " | "):
        with pytest.raises(InvalidInput):
            say(deps, asked, unknown)


def test_a_label_that_came_with_a_later_release_is_right_of_an_earlier_answer(deps: Dependencies) -> None:
    """A case is closed days later, by then with a label that the release which answered never had."""
    asked, now = answer(deps, "refund"), deps.clock.now()
    later = make_release("acme", 2, TaskKind.CLASSIFY, now, prompt=CLASSIFY.model_copy(update={"labels": ("refund", "fraud")}))
    with deps.ledger.work("acme") as work:
        work.releases.add(later)
    with pytest.raises(InvalidInput):
        say(deps, asked, "Fraud")
    targets = (AliasTarget(release=later.digest, weight=1.0),)
    with deps.ledger.work("acme") as work:
        alias = work.requests.get(asked).alias.rpartition("/")[2]
        work.aliases.put(Alias(tenant="acme", name=alias, targets=targets, moved_at=now, moved_by="operator"))
    assert [say(deps, asked, label) for label in ("Fraud", "top_up")] == [("fraud", 0.0), ("top_up", 0.0)]
    with pytest.raises(InvalidInput):
        say(deps, asked, "fruad")


def test_a_misspelt_label_settles_nothing(deps: Dependencies) -> None:
    asked, reviewer = answer(deps, "refund"), act_as(deps, "acme", "reviewer")
    with pytest.raises(InvalidInput):
        settle_review(deps, reviewer, asked, "refnud")
    assert settle_review(deps, reviewer, asked, "REFUND").label == "refund"
