"""Judgements of reviewers, and reviews by LLM judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from support.doubles.ledger.releases import RELEASES
from support.doubles.ledger.tables import Repository, Table, Transaction, contradiction, stored
from tailorbird.crypto.anchored_rows import RowGroup, review_group
from tailorbird.domain.errors import Conflict, LeaseLost
from tailorbird.domain.label_review import Judgement, JudgeState, ModelReview
from tailorbird.domain.run import LONGEST_LEASE
from tailorbird.domain.value import Digest
from tailorbird.ports.clock import Clock

#: Judgements by release, reviewer and item.
JUDGEMENTS: Table[tuple[Digest, str, int], Judgement] = Table("judgements")


@dataclass(frozen=True)
class ModelReviewRow:
    """A review, and who has it in hand."""

    review: ModelReview
    owner: str | None = None
    lease_until: datetime | None = None


#: Reviews by release and model.
MODEL_REVIEWS: Table[tuple[Digest, str], ModelReviewRow] = Table("model_reviews")


class MemoryJudgements(Repository):
    """Implements ``JudgementRepository``."""

    def add(self, judgement: Judgement) -> None:
        """Adds a judgement. Raises Conflict when this reviewer has judged this item already, and when there is no such release."""
        rows, key = self._change(JUDGEMENTS), (judgement.release, judgement.reviewer, judgement.number)
        if key in rows:
            raise Conflict(
                f"{judgement.reviewer} has judged item {judgement.number} already", "go on with the next one", code="judged_already"
            )
        if judgement.release not in self._rows(RELEASES):
            raise contradiction()
        with self._transaction.unanchored.changing(lambda: _groups_of(self._transaction, self._tenant, judgement.release)):
            rows[key] = stored(judgement)

    def of(self, release: Digest) -> tuple[Judgement, ...]:
        """All judgements of a release, in the order in which they were given."""
        found = [one for one in self._rows(JUDGEMENTS).values() if one.release == release]
        return tuple(sorted(found, key=lambda one: (one.at, one.reviewer, one.number)))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of the label review of each release that has one, by judge models too."""
        releases = {key[0] for key in self._rows(JUDGEMENTS)} | {key[0] for key in self._rows(MODEL_REVIEWS)}
        yield from (group for release in sorted(releases) for group in _groups_of(self._transaction, self._tenant, release))

    def forget_reasons(self, given: Iterable[Judgement]) -> int:
        """Empties the reasons of these judgements, whose marks stay; how many there were."""
        rows, count = self._change(JUDGEMENTS), 0
        for key in ((one.release, one.reviewer, one.number) for one in given):
            if key in rows and rows[key].reason:
                rows[key] = rows[key].model_copy(update={"reason": ""})
                count += 1
        return count


def is_free(row: ModelReviewRow, now: datetime) -> bool:
    """True for a review that waits and is in nobody's hand at ``now``."""
    until = row.lease_until
    return row.review.state is JudgeState.WAITING and (until is None or not now <= until <= now + LONGEST_LEASE)


class MemoryModelReviews(Repository):
    """Implements ``ModelReviewRepository``."""

    def __init__(self, transaction: Transaction, tenant: str, clock: Clock) -> None:
        super().__init__(transaction, tenant)
        self._clock = clock

    def add(self, review: ModelReview) -> ModelReview:
        """Adds a review that waits, or returns the one there is. Raises Conflict when there is no such release."""
        rows = self._change(MODEL_REVIEWS)
        if review.release not in self._rows(RELEASES):
            raise contradiction()
        with self._changing(review):
            return rows.setdefault((review.release, review.model), ModelReviewRow(stored(review))).review

    def reopen(self, review: ModelReview) -> None:
        """Lets a review that failed wait again."""
        rows, key = self._change(MODEL_REVIEWS), (review.release, review.model)
        if key in rows and rows[key].review.state is JudgeState.FAILED:
            again = {"state": JudgeState.WAITING, "error": None, "attempts": 0}
            with self._changing(review):
                rows[key] = replace(rows[key], review=rows[key].review.model_copy(update=again))

    def of(self, release: Digest) -> tuple[ModelReview, ...]:
        """All reviews of a release, in the order in which they were first asked for."""
        return tuple(row.review for (of, _), row in self._rows(MODEL_REVIEWS).items() if of == release)

    def take(self, review: ModelReview, owner: str, ttl: timedelta) -> bool:
        """Takes, or keeps, the lease of a review that waits."""
        rows, key, now = self._change(MODEL_REVIEWS), (review.release, review.model), self._clock.now()
        row = rows.get(key)
        if row is None or row.review.state is not JudgeState.WAITING or not (row.owner == owner or is_free(row, now)):
            return False
        begun = row.review.attempts + (row.owner != owner)
        rows[key] = ModelReviewRow(row.review.model_copy(update={"attempts": begun}), owner, now + ttl)
        return True

    def finish(self, review: ModelReview, owner: str) -> None:
        """Writes what was found. Raises LeaseLost."""
        rows, key = self._change(MODEL_REVIEWS), (review.release, review.model)
        row = rows.get(key)
        if row is None or row.review.state is not JudgeState.WAITING or row.owner != owner:
            raise LeaseLost(
                f"{review.model} is no longer in the hand of {owner}", "nothing is to be done: whoever holds it now finishes it"
            )
        with self._changing(review):
            rows[key] = ModelReviewRow(stored(review).model_copy(update={"attempts": row.review.attempts}))

    def _changing(self, review: ModelReview) -> AbstractContextManager[None]:
        return self._transaction.unanchored.changing(lambda: _groups_of(self._transaction, self._tenant, review.release))


def _groups_of(transaction: Transaction, tenant: str, release: Digest) -> tuple[RowGroup, ...]:
    """What is anchored of the label review of one release."""
    models = [row.review for (of, _), row in transaction.rows(MODEL_REVIEWS, tenant).items() if of == release]
    return (review_group(tenant, release, MemoryJudgements(transaction, tenant).of(release), models),)
