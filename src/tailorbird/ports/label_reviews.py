"""What reviewers said of a release's answers, and what judge models did."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

from tailorbird.domain.label_review import Judgement, ModelReview
from tailorbird.domain.value import Digest


class JudgementRepository(Protocol):
    """One tenant's judgements."""

    def add(self, judgement: Judgement) -> None:
        """Adds a judgement. Raises Conflict when this reviewer has judged this item of this release already, and when there is
        no such release."""
        ...

    def of(self, release: Digest) -> tuple[Judgement, ...]:
        """All judgements of a release, in the order in which they were given."""
        ...

    def forget_reasons(self, given: Iterable[Judgement]) -> int:
        """Empties the reasons of these judgements, whose marks stay; how many there were."""
        ...


class ModelReviewRepository(Protocol):
    """One tenant's reviews by judge models. One is in one owner's hand at a time, and what it found is taken from that owner alone."""

    def add(self, review: ModelReview) -> ModelReview:
        """Adds a review that waits. Where that model was asked about that release before, returns the one there is. Raises Conflict
        when there is no such release."""
        ...

    def reopen(self, review: ModelReview) -> None:
        """Lets a review that failed wait again. Does nothing to any other."""
        ...

    def of(self, release: Digest) -> tuple[ModelReview, ...]:
        """All reviews of a release, in the order in which they were first asked for."""
        ...

    def take(self, review: ModelReview, owner: str, ttl: timedelta) -> bool:
        """Takes, or keeps, the lease of a review that waits; False when somebody else holds it, or when it does not wait any more."""
        ...

    def finish(self, review: ModelReview, owner: str) -> None:
        """Writes what was found and gives the lease back. Raises LeaseLost when ``owner`` does not hold it."""
        ...
