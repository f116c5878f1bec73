"""What people say of answers, and the answers that wait for them.

In: words on requests, by id, of programs and of people. Out: feedback joined to the request; the queue, with the words that were kept. Must
not know: HTTP, who is allowed (the caller is known already).
"""

from __future__ import annotations

from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.feedback import Content, Feedback, FeedbackKind, Review, Said, score_of
from tailorbird.domain.value import Value
from tailorbird.lifecycle.journal import record
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.ports.ledger import UnitOfWork


class ReviewItem(Value):
    """An answer that waits, with its row; the words are there where the tenant's policy kept them."""

    review: Review
    request: RequestRow
    content: Content | None


def give_feedback(parts: Parts, tenant: str, source: str, said: Said) -> Feedback:
    """Files what ``source`` (a key's id, a person's name) says of an answer. Raises NotFound: no such request in this tenant."""
    with parts.ledger.work(tenant) as work:
        return _file(parts, work, source, said)


def queue(parts: Parts, tenant: str, limit: int) -> tuple[tuple[ReviewItem, ...], int]:
    """The oldest answers that wait, and how many there are."""
    with parts.ledger.work(tenant, write=False) as work:
        waiting = work.reviews.waiting(limit)
        items = tuple(
            ReviewItem(review=one, request=work.requests.get(one.request), content=work.contents.get(one.request)) for one in waiting
        )
        return items, work.reviews.count()


def settle_review(parts: Parts, actor: Actor, request: str, label: str) -> Review:
    """Files a person's label for an answer that waits; it becomes feedback. Raises NotFound, InvalidInput (settled already)."""
    now = parts.clock.now()
    with parts.ledger.work(actor.tenant) as work:
        settled = work.reviews.get(request).settled(label, actor.name, now)
        work.reviews.replace(settled)
        _file(parts, work, actor.name, Said(request=request, kind=FeedbackKind.LABEL, value=label))
        # The label itself may be words of a person: the log says that there is one.
        record(work, "review.settled", actor.name, request, now, {"reason": settled.reason.value})
    return settled


def _file(parts: Parts, work: UnitOfWork, source: str, said: Said) -> Feedback:
    row = work.requests.get(said.request)
    score = score_of(said, row.prediction)
    filed = Feedback(tenant=row.tenant, source=source, score=score, at=parts.clock.now(), **dict(said))
    work.feedback.put(filed)
    return filed
