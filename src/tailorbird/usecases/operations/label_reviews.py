"""Operations of label review, by people and by models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.label_review import Mark
from tailorbird.domain.value import Value
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.label_reviews import label_review, llm_judges
from tailorbird.usecases.operations.operation import Operation
from tailorbird.usecases.operations.releases import DigestStart, OneRelease, Reason


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


def _show(deps: Dependencies, actor: Actor, asked: OneRelease) -> label_review.ReviewState:
    return label_review.standing(deps, actor.tenant, asked.digest)


def _next(deps: Dependencies, actor: Actor, asked: OneRelease) -> label_review.ShownItem:
    return label_review.next_shown(deps, actor, asked.digest)


def _judge(deps: Dependencies, actor: Actor, asked: Judged) -> label_review.ShownItem:
    return label_review.judge(deps, actor, asked.digest, asked.number, asked.mark, asked.reason)


def _ask(deps: Dependencies, actor: Actor, asked: JudgeWanted) -> label_review.ReviewState:
    review = llm_judges.ask(deps, actor, asked.digest, asked.model)
    return label_review.standing(deps, actor.tenant, review.release)


SHOW = Operation(
    "label_review.show",
    "GET",
    "/api/releases/{digest}/review",
    Action.SHOW_RELEASE,
    OneRelease,
    label_review.ReviewState,
    _show,
    "Show how its label review stands.",
)
NEXT = Operation(
    "label_review.next",
    "GET",
    "/api/releases/{digest}/review/next",
    Action.JUDGE,
    OneRelease,
    label_review.ShownItem,
    _next,
    "Show the next two answers to judge.",
)
JUDGE = Operation(
    "label_review.judge", "POST", "/api/releases/{digest}/review", Action.JUDGE, Judged, label_review.ShownItem, _judge, "File a judgement."
)
ASK = Operation(
    "label_review.ask",
    "POST",
    "/api/releases/{digest}/review/judges",
    Action.ASK_JUDGE,
    JudgeWanted,
    label_review.ReviewState,
    _ask,
    "Ask a model to judge beside people; a worker does it.",
)
