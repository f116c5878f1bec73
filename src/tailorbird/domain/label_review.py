"""Label review: blinded judgements by people."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tailorbird.domain.evidence import Verdict
from tailorbird.domain.value import Digest, Name, Value

#: Whom the other answers of a sheet are by where no other candidate was measured.
DATA_ANSWERS = "the answers in the data"


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


class ReviewResult(Value):
    """What the judgements add up to. ``win_rate`` is how often the candidate's answer was preferred, ties counting half, clustered by item.

    ``agreement`` of the reviewers is Krippendorff's alpha. ``missing`` are reviewers still needed.
    """

    asked: int
    missing: int
    reviewers: tuple[ReviewerRecord, ...]
    win_rate: Bounded
    agreement: Bounded
    verdict: Verdict
    reason: str
