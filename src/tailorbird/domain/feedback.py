"""Feedback on answers, and answers that wait for a person."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.value import Digest, Name, Value

RequestId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class FeedbackKind(StrEnum):
    """A thumb (``up``, ``down``), the right label, a mark of satisfaction (1 to 5), or how it ended (``good``, ``bad``)."""

    THUMB = "thumb"
    LABEL = "label"
    CSAT = "csat"
    OUTCOME = "outcome"


#: What each kind may say, and how good that is; a label is as good as the answer is like it.
SCORES: dict[FeedbackKind, dict[str, float]] = {
    FeedbackKind.THUMB: {"up": 1.0, "down": 0.0},
    FeedbackKind.CSAT: {str(mark): (mark - 1) / 4 for mark in range(1, 6)},
    FeedbackKind.OUTCOME: {"good": 1.0, "bad": 0.0},
}


class Feedback(Value):
    """One person's or program's word on one answer. Said again by the same source, it takes the place of what was said before.

    ``score`` is from 0 to 1; None where a label cannot be compared with the answer (text that was generated).
    """

    tenant: Name
    request: RequestId
    kind: FeedbackKind
    source: Annotated[str, Field(max_length=80)]
    value: Annotated[str, Field(max_length=500)]
    score: Annotated[float, Field(ge=0, le=1)] | None
    at: datetime


class Marks(Value):
    """What was said of one release's answers, in one way: how often, and the mean of the scores."""

    kind: FeedbackKind
    n: int
    mean: float


class FeedbackGiven(Value):
    """What somebody says of an answer."""

    request: RequestId
    kind: FeedbackKind
    value: Annotated[str, Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _is_on_the_scale(self) -> FeedbackGiven:
        allowed = SCORES.get(self.kind)
        if allowed is not None and self.value not in allowed:
            raise ValueError(f"{self.kind.value} is one of: {', '.join(allowed)}")
        return self


def score_of(said: FeedbackGiven, prediction: str | None) -> float | None:
    """How good the answer was by what was said. A label is 1 when it is what was answered, else 0."""
    if said.kind is FeedbackKind.LABEL:
        return None if prediction is None else float(said.value == prediction)
    return SCORES[said.kind][said.value]


class ReviewReason(StrEnum):
    """Why an answer waits for a person: the release was not sure or handed over, or it was drawn at random."""

    REFERRED = "referred"
    SAMPLE = "sample"


class Review(Value):
    """An answer in the queue for people. ``label`` is what a person said is right; ``settled_by`` and ``settled_at`` come with it."""

    tenant: Name
    request: RequestId
    alias: str
    reason: ReviewReason
    state: Literal["open", "settled", "dropped"] = "open"
    queued_at: datetime
    settled_at: datetime | None = None
    settled_by: Name | None = None
    label: str | None = None

    def settled(self, label: str, by: str, at: datetime) -> Review:
        """The item with a person's label. Raises InvalidInput when somebody was first."""
        if self.state != "open":
            raise InvalidInput(f"the answer {self.request} was reviewed already", "take the next one", code="review_settled")
        return self.model_copy(update={"state": "settled", "label": label, "settled_by": by, "settled_at": at})


class KeptWords(Value):
    """The words of one request, redacted, kept until ``expires_at`` because the tenant's policy says so."""

    tenant: Name
    request: RequestId
    text: str
    answer: str
    at: datetime
    expires_at: datetime


class TrafficPolicy(Value):
    """What a tenant lets be kept of its traffic: no text without ``store_content``. ``review_share`` of the answers go to people at
    random. ``endpoints`` are the hosted models that its data and requests may be sent to, of those that the host registered for it.
    ``request_days``: for how long rows of requests are kept, with what was said of them; always, where it is not set.
    """

    store_content: bool = False
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    review_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    endpoints: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    request_days: Annotated[int | None, Field(ge=35, le=3650)] = None


class Severity(StrEnum):
    """How urgently a person should look."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


#: Every reading there is: what is compared, and of what (docs/reference/signals.md explains each).
SignalName = Literal[
    "drift.text",
    "drift.length",
    "drift.classes",
    "drift.out_of_scope",
    "service.error_rate",
    "service.refusal_rate",
    "service.fallback_rate",
    "service.load_refused",
    "service.latency_p95_ms",
    "service.cost_per_1k_requests",
    "feedback.accuracy",
    "feedback.score",
    "live_kpi.csat",
    "live_kpi.thumbs",
    "live_kpi.outcome",
    "rollout.rolled_back",
    "rollout.held",
    "rollout.inconclusive",
]


class Signal(Value):
    """One reading of one release's traffic.

    ``bound`` is the limit it is held against, ``n`` the requests or rows it rests on, ``text`` the sentence a person reads.
    """

    tenant: Name
    objective: Name
    release: Digest
    name: SignalName
    value: float
    bound: float | None
    p_value: float | None = None
    n: int
    severity: Severity
    text: str
    at: datetime
