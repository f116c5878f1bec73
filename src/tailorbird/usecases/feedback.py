"""Feedback on answers, the queue of answers for review, and redaction of the words that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.data.privacy import Redaction
from tailorbird.domain.curation import PrivacyAction, PrivacyPolicy
from tailorbird.domain.deployment import RequestRow, name_and_stage
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.feedback import Feedback, FeedbackGiven, FeedbackKind, KeptWords, RequestId, Review, score_of
from tailorbird.domain.identity import Scope
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Value
from tailorbird.ledger import UnitOfWork
from tailorbird.text.label_rules import NONE, join, split
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase

#: Labels that an error lists.
_MOST_NAMED = 20


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

    Raises NotFound: no such request in this tenant; InvalidInput: a label that the release does not know.
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

    The label becomes feedback. Raises NotFound, InvalidInput (settled already, a label that the release does not know).
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        waiting = work.reviews.get(request)
        filed = _file(deps, work, actor.name, FeedbackGiven(request=request, kind=FeedbackKind.LABEL, value=label))
        settled = waiting.settled(filed.value, actor.name, now)
        work.reviews.replace(settled)
        # The label itself may be words of a person: the log says that there is one.
        record(work, "review.settled", actor.name, request, now, {"reason": settled.reason.value})
    return settled


def _file(deps: Dependencies, work: UnitOfWork, source: str, said: FeedbackGiven) -> Feedback:
    row = work.requests.get(said.request)
    given = said.model_copy(update={"value": _known_label(work, row, said.value)}) if said.kind is FeedbackKind.LABEL else said
    filed = Feedback(tenant=row.tenant, source=source, score=score_of(given, row.prediction), at=deps.clock.now(), **dict(given))
    work.feedback.put(filed)
    return filed


def _known_label(work: UnitOfWork, row: RequestRow, given: str) -> str:
    """The label, or the set of labels, as the release that answered spells it, or one that answers the same name now: who knows of a new
    label says rightly that it was this one. ``none`` says that none fits. Raises InvalidInput for any other: misspelt, it would count as a
    wrong answer."""
    prompt = work.releases.get(row.release).content.prompt if row.release else None
    if prompt is None or not prompt.labels:
        return given
    own = _spelt(prompt, given)
    if own is not None:
        return own
    for other in _beside(work, row):
        if (label := _spelt(other, given)) is not None:
            return label
    more = f" and {len(prompt.labels) - _MOST_NAMED} more" if prompt.labels[_MOST_NAMED:] else ""
    hint = f"give one of: {', '.join(prompt.labels[:_MOST_NAMED])}{more}; or {NONE}, where none of them fits"
    raise InvalidInput("the release that answered has no such label", hint, code="label_unknown", param="value")


def _spelt(prompt: PromptSpec, given: str) -> str | None:
    """What is ``given`` as ``prompt`` spells it: case and outer white space do not count. None where it has no such label."""
    spelt = {label.casefold(): label for label in reversed(prompt.labels)} | {label: label for label in prompt.labels}
    parts = split(given) if prompt.alone or prompt.label_sets else (given.strip(),)
    found = [spelt.get(part) or spelt.get(part.casefold()) for part in parts]
    if found and None not in found:
        return join(filter(None, found)) if len(found) != 1 else str(found[0])
    return NONE if given.strip().casefold() == NONE else None


def _beside(work: UnitOfWork, row: RequestRow) -> Iterator[PromptSpec]:
    """Prompts of the releases that the name of the request is put to now, or was before, but the one that answered."""
    name, stage = name_and_stage(row.alias)
    for alias in work.aliases.all([name], stage):
        for release in (*alias.asked, *(target.release for target in alias.previous)):
            if release != row.release:
                yield work.releases.get(release).content.prompt
