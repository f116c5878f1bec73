"""Operations on what people say of answers, and on the answers that wait for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.feedback import Feedback, FeedbackGiven, RequestId, Review
from tailorbird.domain.identity import Scope
from tailorbird.domain.value import Value
from tailorbird.usecases import feedback
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Operation


class QueueRequest(Value):
    """The oldest ``limit`` of the queue."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50


class AnswerQueue(Value):
    """Answers that wait for people, oldest first, and how many there are."""

    items: tuple[feedback.QueuedAnswer, ...]
    total: int


class AnswerLabel(Value):
    """The label that a person finds right for an answer of the queue."""

    request: RequestId
    label: Annotated[str, Field(min_length=1, max_length=500)]


def _give(deps: Dependencies, actor: Actor, asked: FeedbackGiven) -> Feedback:
    return feedback.give_feedback(deps, actor.tenant, actor.name, asked)


def _queue(deps: Dependencies, actor: Actor, asked: QueueRequest) -> AnswerQueue:
    items, total = feedback.queue(deps, actor.tenant, asked.limit)
    return AnswerQueue(items=items, total=total)


def _settle(deps: Dependencies, actor: Actor, asked: AnswerLabel) -> Review:
    return feedback.settle_review(deps, actor, asked.request, asked.label)


GIVE = Operation(
    "feedback.give",
    "POST",
    "/api/feedback",
    Action.GIVE_FEEDBACK,
    FeedbackGiven,
    Feedback,
    _give,
    "Say what became of an answer; programs show an API key.",
    scope=Scope.FEEDBACK,
)
QUEUE = Operation(
    "review.list", "GET", "/api/reviews", Action.REVIEW, QueueRequest, AnswerQueue, _queue, "List answers that wait for people."
)
SETTLE = Operation(
    "review.settle", "POST", "/api/reviews/{request}", Action.REVIEW, AnswerLabel, Review, _settle, "Label an answer that waits for people."
)
