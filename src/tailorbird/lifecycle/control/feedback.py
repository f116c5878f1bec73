"""Operations on what people say of answers, and on the answers that wait for them.

In: what a caller asks. Out: feedback, the queue. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.feedback import Feedback, RequestId, Review, Said
from tailorbird.domain.identity import Scope
from tailorbird.domain.value import Value
from tailorbird.lifecycle.control.operation import Operation
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.lifecycle.watching import feedback


class Wanted(Value):
    """The oldest ``limit`` of the queue."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50


class Queue(Value):
    """Answers that wait for people, oldest first, and how many there are."""

    items: tuple[feedback.ReviewItem, ...]
    total: int


class Labelled(Value):
    """The label that a person finds right for an answer of the queue."""

    request: RequestId
    label: Annotated[str, Field(min_length=1, max_length=500)]


def _give(parts: Parts, actor: Actor, asked: Said) -> Feedback:
    return feedback.give_feedback(parts, actor.tenant, actor.name, asked)


def _queue(parts: Parts, actor: Actor, asked: Wanted) -> Queue:
    items, total = feedback.queue(parts, actor.tenant, asked.limit)
    return Queue(items=items, total=total)


def _settle(parts: Parts, actor: Actor, asked: Labelled) -> Review:
    return feedback.settle_review(parts, actor, asked.request, asked.label)


GIVE = Operation(
    "feedback.give",
    "POST",
    "/api/feedback",
    Action.GIVE_FEEDBACK,
    Said,
    Feedback,
    _give,
    "Say what became of an answer; programs show an API key.",
    scope=Scope.FEEDBACK,
)
QUEUE = Operation("review.list", "GET", "/api/reviews", Action.REVIEW, Wanted, Queue, _queue, "List answers that wait for people.")
SETTLE = Operation(
    "review.settle", "POST", "/api/reviews/{request}", Action.REVIEW, Labelled, Review, _settle, "Label an answer that waits for people."
)
