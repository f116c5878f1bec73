"""Label review: blinded judgements by people, and by LLM judges beside them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tailorbird.domain.evidence import Verdict
from tailorbird.domain.value import Digest, Name, Value

#: Whom the other answers of a sheet are by where no other candidate was measured.
DATA_ANSWERS = "the answers in the data"


class JudgeState(StrEnum):
    """``WAITING`` for somebody who can run the model, or in hand; ``DONE`` for ever; ``FAILED`` until it is asked again."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class PairMark(Value):
    """What a judge model finds of one pair: by how many nats the letter of the candidate's answer is likelier than that of the other,
    asked with the candidate's answer as A (``as_first``), and with it as B (``as_second``)."""

    number: int
    as_first: float
    as_second: float

    @property
    def is_agreed(self) -> bool:
        """True when both orders prefer the same answer."""
        return self.as_first * self.as_second > 0

    @property
    def score(self) -> float:
        """1 where both orders prefer the candidate's answer, 0 where both prefer the other, a half where the place decided."""
        return float(self.as_first > 0) if self.is_agreed else 0.5


class ModelReview(Value):
    """One model's review of one release. ``model`` is the name it was asked by; ``base`` the digest of what that name led to.

    ``bar`` is the house's at the time of asking: the kappa that the lower end of the judge's agreement with people must reach before it
    counts. ``related`` says why this model may inform and never counts, because the answers are its own kin's; empty where they are not.
    ``error`` is the code of what went wrong, ``attempts`` how many processes have begun.
    """

    release: Digest
    model: str
    asked_by: Name
    asked_at: datetime
    bar: Annotated[float, Field(gt=0, le=1)]
    state: JudgeState = JudgeState.WAITING
    base: Digest | None = None
    related: str = ""
    engine: str = ""
    marks: tuple[PairMark, ...] = ()
    error: str | None = None
    judged_at: datetime | None = None
    attempts: int = 0


class Mark(StrEnum):
    """What a reviewer says of two answers. ``SKIP`` needs a reason."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    NEITHER = "neither"
    SKIP = "skip"


class ReviewItem(Value):
    """Two answers to one item: the candidate's and the other's. ``repeat_of`` names the item of the sheet that is shown again here.
    ``erased`` says that both answers went with a person."""

    number: int
    item: Digest
    candidate: str
    other: str
    repeat_of: int | None = None
    erased: bool = False


class ReviewSheet(Value):
    """What people are asked about a release: ``reviewers`` must judge every item. ``against`` says whom the other answers are by.
    ``stands_for`` is the digest of the sheet, as releases sign it, that this one replaced when a person's words were taken out."""

    tenant: Name
    objective_name: Name
    snapshot: Digest
    split: str
    against: str
    reviewers: int
    items: tuple[ReviewItem, ...]
    stands_for: Digest | None = None

    @property
    def open(self) -> tuple[ReviewItem, ...]:
        """Items that can be judged: those whose answers are there."""
        return tuple(item for item in self.items if not item.erased)


class Judgement(Value):
    """One mark by one reviewer. ``side`` is where the candidate's answer stood, so that who always says "left" is seen."""

    release: Digest
    reviewer: Name
    number: int
    mark: Mark
    candidate_side: Annotated[str, Field(pattern="^(left|right)$")]
    reason: Annotated[str, Field(max_length=2000)] = ""
    at: datetime

    @property
    def score(self) -> float | None:
        """1 where the candidate's answer was preferred, 0 where the other's was, a half where neither was; None where nothing was said."""
        if self.mark is Mark.SKIP:
            return None
        if self.mark in (Mark.TIE, Mark.NEITHER):
            return 0.5
        return float(self.mark.value == self.candidate_side)


class Bounded(Value):
    """A number with its interval; ``value`` is None where it is undefined (too few judgements in common)."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ReviewerRecord(Value):
    """How one reviewer did. ``consistency`` is the share of repeated items that were judged alike; ``flagged`` says why nothing of theirs
    counts."""

    reviewer: Name
    judged: int
    skipped: int
    left_share: float | None
    consistency: float | None
    flagged: str = ""


class JudgeResult(Value):
    """How one judge model did, beside people and never among them. ``judged`` are the pairs it marked, each in both orders, ``agreed`` the
    share of them on which the orders agree. ``kappa`` is Cohen's, of its marks and people's, over the ``common`` pairs that both marked;
    without a value where those are too few. It ``counts`` when the lower end of kappa reaches ``bar``; ``reason`` says why, or why not.
    """

    model: str
    base: Digest | None = None
    state: JudgeState = JudgeState.DONE
    judged: int = 0
    agreed: float | None = None
    win_rate: Bounded = Bounded(value=None)
    kappa: Bounded = Bounded(value=None)
    common: int = 0
    bar: float
    confidence: float | None = None
    counts: bool = False
    reason: str


class ReviewResult(Value):
    """What the judgements add up to. ``win_rate`` is how often the candidate's answer was preferred, ties counting half, clustered by item.

    ``fleiss`` needs every item judged by the same number of people, ``cohen`` exactly two reviewers. ``missing`` are reviewers still
    needed. ``judges`` are models: none of the numbers above holds a mark of theirs.
    """

    asked: int
    missing: int
    reviewers: tuple[ReviewerRecord, ...]
    win_rate: Bounded
    cohen: Bounded
    fleiss: Bounded
    krippendorff: Bounded
    verdict: Verdict
    reason: str
    judges: tuple[JudgeResult, ...] = ()
