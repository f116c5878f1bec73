"""Operations of label review, by people and by models.

In: what a caller asks. Out: the next item, the review so far. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.review import Mark
from tailorbird.domain.value import Value
from tailorbird.lifecycle.control.operation import Operation
from tailorbird.lifecycle.control.releases import DigestStart, OneRelease, Reason
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.lifecycle.releasing import judges, reviewing


class Judged(Value):
    """A mark on the item that was shown as ``number``; whoever skips says why."""

    digest: DigestStart
    number: Annotated[int, Field(ge=1, le=10_000)]
    mark: Mark
    reason: Reason = ""


class JudgeWanted(Value):
    """A model to ask about a release: a name of the catalogue, or ``hf://OWNER/NAME[@REVISION]``."""

    digest: DigestStart
    model: Annotated[str, Field(min_length=1, max_length=300)]


def _show(parts: Parts, actor: Actor, asked: OneRelease) -> reviewing.ReviewState:
    return reviewing.standing(parts, actor.tenant, asked.digest)


def _next(parts: Parts, actor: Actor, asked: OneRelease) -> reviewing.Shown:
    return reviewing.next_shown(parts, actor, asked.digest)


def _judge(parts: Parts, actor: Actor, asked: Judged) -> reviewing.Shown:
    return reviewing.judge(parts, actor, asked.digest, asked.number, asked.mark, asked.reason)


def _ask(parts: Parts, actor: Actor, asked: JudgeWanted) -> reviewing.ReviewState:
    review = judges.ask(parts, actor, asked.digest, asked.model)
    return reviewing.standing(parts, actor.tenant, review.release)


SHOW = Operation(
    "label_review.show",
    "GET",
    "/api/releases/{digest}/review",
    Action.SHOW_RELEASE,
    OneRelease,
    reviewing.ReviewState,
    _show,
    "Show how its label review stands.",
)
NEXT = Operation(
    "label_review.next",
    "GET",
    "/api/releases/{digest}/review/next",
    Action.JUDGE,
    OneRelease,
    reviewing.Shown,
    _next,
    "Show the next two answers to judge.",
)
JUDGE = Operation(
    "label_review.judge", "POST", "/api/releases/{digest}/review", Action.JUDGE, Judged, reviewing.Shown, _judge, "File a judgement."
)
ASK = Operation(
    "label_review.ask",
    "POST",
    "/api/releases/{digest}/review/judges",
    Action.ASK_JUDGE,
    JudgeWanted,
    reviewing.ReviewState,
    _ask,
    "Ask a model to judge beside people; a worker does it.",
)
