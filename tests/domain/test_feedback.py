"""What people say of answers, as scores."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.feedback import SCORES, FeedbackGiven, FeedbackKind, Review, ReviewReason, score_of

REQUEST = "req-1"


def test_a_label_is_right_or_wrong_and_nothing_without_an_answer() -> None:
    said = FeedbackGiven(request=REQUEST, kind=FeedbackKind.LABEL, value="refund")
    assert [score_of(said, answer) for answer in ("refund", "invoice", None)] == [1.0, 0.0, None]


@pytest.mark.parametrize("kind", sorted(SCORES))
def test_a_scale_runs_from_0_to_1_and_has_no_other_values(kind: FeedbackKind) -> None:
    scores = [score_of(FeedbackGiven(request=REQUEST, kind=kind, value=value), None) for value in SCORES[kind]]
    assert (min(scores, key=float), max(scores, key=float)) == (0.0, 1.0)
    with pytest.raises(ValidationError):
        FeedbackGiven(request=REQUEST, kind=kind, value="splendid")


def test_an_answer_is_reviewed_once() -> None:
    at = datetime(2028, 1, 1, tzinfo=UTC)
    waiting = Review(tenant="acme", request=REQUEST, alias="acme/intents", reason=ReviewReason.REFERRED, queued_at=at)
    reviewed = waiting.settled("refund", "ann", at)
    assert (reviewed.state, reviewed.label, reviewed.settled_by) == ("settled", "refund", "ann")
    with pytest.raises(InvalidInput) as refused:
        reviewed.settled("invoice", "bob", at)
    assert refused.value.error_code == "review_settled"
