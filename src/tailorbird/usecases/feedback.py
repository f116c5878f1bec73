"""Feedback on answers, the queue of answers for review, and redaction of the words that are kept."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.data.privacy import Redaction
from tailorbird.domain.curation import PrivacyAction, PrivacyPolicy
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.feedback import Feedback, FeedbackGiven, FeedbackKind, KeptWords, RequestId, Review, score_of
from tailorbird.domain.identity import Scope
from tailorbird.domain.value import Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase


def redact(text: str) -> str:
    """``text`` without the personal data and secrets that were found in it."""
    return _detectors().treat([text])[0].text


@cache
def _detectors() -> Redaction:
    return Redaction(PrivacyPolicy(default=PrivacyAction.REDACT))


class QueuedAnswer(Value):
    """An answer that waits, with its row; the words are there where the tenant's policy kept them."""

    review: Review
    request: RequestRow
    content: KeptWords | None


class AnswerQueue(Value):
    """Answers that wait for people, oldest first, and how many there are."""

    items: tuple[QueuedAnswer, ...]
    total: int


@usecase("feedback.give", "POST", "/api/feedback", Action.GIVE_FEEDBACK, scope=Scope.FEEDBACK)
def give_feedback(deps: Dependencies, actor: Actor, said: FeedbackGiven) -> Feedback:
    """Say what became of an answer; programs show an API key.

    Raises NotFound: no such request in this tenant.
    """
    with deps.ledger.work(actor.tenant) as work:
        return _file(deps, work, actor.name, said)


@usecase("review.list", "GET", "/api/reviews", Action.REVIEW)
def list_reviews(deps: Dependencies, actor: Actor, limit: Annotated[int, Field(ge=1, le=500)] = 50) -> AnswerQueue:
    """List answers that wait for people.

    The oldest ``limit``.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        waiting = work.reviews.waiting(limit)
        items = tuple(
            QueuedAnswer(review=one, request=work.requests.get(one.request), content=work.contents.get(one.request)) for one in waiting
        )
        return AnswerQueue(items=items, total=work.reviews.count())


@usecase("review.settle", "POST", "/api/reviews/{request}", Action.REVIEW)
def settle_review(
    deps: Dependencies, actor: Actor, request: RequestId, label: Annotated[str, Field(min_length=1, max_length=500)]
) -> Review:
    """Label an answer that waits for people.

    The label becomes feedback. Raises NotFound, InvalidInput (settled already).
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        settled = work.reviews.get(request).settled(label, actor.name, now)
        work.reviews.replace(settled)
        _file(deps, work, actor.name, FeedbackGiven(request=request, kind=FeedbackKind.LABEL, value=label))
        # The label itself may be words of a person: the log says that there is one.
        record(work, "review.settled", actor.name, request, now, {"reason": settled.reason.value})
    return settled


def _file(deps: Dependencies, work: UnitOfWork, source: str, said: FeedbackGiven) -> Feedback:
    row = work.requests.get(said.request)
    score = score_of(said, row.prediction)
    filed = Feedback(tenant=row.tenant, source=source, score=score, at=deps.clock.now(), **dict(said))
    work.feedback.put(filed)
    return filed
