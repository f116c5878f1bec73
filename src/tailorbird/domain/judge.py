"""Judge models: a base model reads the pairs of a review sheet, each in both orders.

In: what a model found likelier. Out: marks, and one model's review of one release. Must not know: texts of items, prompts, engines, what
the marks add up to.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tailorbird.domain.value import Digest, Name, Value


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
