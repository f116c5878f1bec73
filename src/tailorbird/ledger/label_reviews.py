"""Repositories of label-review judgements and of reviews by LLM judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, union, update

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, review_group
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import Conflict, LeaseLost
from tailorbird.domain.label_review import Judgement, JudgeState, ModelReview
from tailorbird.domain.run import LONGEST_LEASE
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import insert_new, next_number, select_fields, value_of
from tailorbird.ledger.tables import judgements, model_reviews
from tailorbird.ports.clock import Clock


class Judgements:
    """Implements ``JudgementRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, judgement: Judgement) -> None:
        """Adds a judgement. Raises Conflict when this reviewer has judged this item already."""
        with self._changes.changing(lambda: groups_of(self._connection, self._tenant, judgement.release)):
            added = insert_new(self._connection, judgements, judgement.model_dump() | {"tenant": self._tenant})
        if not added:
            raise Conflict(
                f"{judgement.reviewer} has judged item {judgement.number} already", "go on with the next one", code="judged_already"
            )

    def of(self, release: Digest) -> tuple[Judgement, ...]:
        """All judgements of a release, in the order in which they were given."""
        asked = select_fields(judgements, Judgement).where(judgements.c.tenant == self._tenant, judgements.c.release == release)
        rows = self._connection.execute(asked.order_by(judgements.c.at, judgements.c.reviewer, judgements.c.number))
        return tuple(value_of(Judgement, row) for row in rows)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of the label review of each release that has one, by judge models too."""
        reviewed = (select(table.c.release).where(table.c.tenant == self._tenant) for table in (judgements, model_reviews))
        for release in self._connection.scalars(union(*reviewed)).all():
            yield from groups_of(self._connection, self._tenant, release)

    def forget_reasons(self, given: Iterable[Judgement]) -> int:
        """Empties the reasons of these judgements, whose marks stay; how many there were."""
        table = judgements.c
        return sum(
            self._connection.execute(
                update(judgements)
                .where(table.tenant == self._tenant, table.release == one.release)
                .where(table.reviewer == one.reviewer, table.number == one.number, table.reason != "")
                .values(reason="")
            ).rowcount
            for one in given
        )


def groups_of(connection: Connection, tenant: str, release: Digest) -> tuple[RowGroup, ...]:
    """What is anchored of the label review of one release."""
    models = select_fields(model_reviews, ModelReview).where(model_reviews.c.tenant == tenant, model_reviews.c.release == release)
    found = [value_of(ModelReview, row) for row in connection.execute(models.order_by(model_reviews.c.number))]
    return (review_group(tenant, release, Judgements(connection, tenant).of(release), found),)


def is_free(now: datetime) -> ColumnElement[bool]:
    """True for a review that waits and is in nobody's hand at ``now``."""
    until = model_reviews.c.lease_until
    return and_(model_reviews.c.state == JudgeState.WAITING, or_(until.is_(None), until < now, until > now + LONGEST_LEASE))


class ModelReviews:
    """Implements ``ModelReviewRepository``."""

    def __init__(self, connection: Connection, tenant: str, clock: Clock, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._clock = clock
        self._changes = changes or RowChanges()

    def add(self, review: ModelReview) -> ModelReview:
        """Adds a review that waits, or returns the one there is."""
        same_release = (model_reviews.c.tenant == self._tenant, model_reviews.c.release == review.release)
        row = _columns(review) | {"tenant": self._tenant, "number": next_number(model_reviews.c.number, *same_release)}
        with self._changing(review):
            insert_new(self._connection, model_reviews, row)
        return next(one for one in self.of(review.release) if one.model == review.model)

    def reopen(self, review: ModelReview) -> None:
        """Lets a review that failed wait again."""
        with self._changing(review):
            self._change(review, model_reviews.c.state == JudgeState.FAILED, state=JudgeState.WAITING, error=None, attempts=0)

    def of(self, release: Digest) -> tuple[ModelReview, ...]:
        """All reviews of a release, in the order in which they were first asked for."""
        asked = select_fields(model_reviews, ModelReview).where(model_reviews.c.tenant == self._tenant, model_reviews.c.release == release)
        return tuple(value_of(ModelReview, row) for row in self._connection.execute(asked.order_by(model_reviews.c.number)))

    def take(self, review: ModelReview, owner: str, ttl: timedelta) -> bool:
        """Takes, or keeps, the lease of a review that waits."""
        now = self._clock.now()
        mine = and_(model_reviews.c.state == JudgeState.WAITING, model_reviews.c.owner == owner)
        if self._change(review, mine, lease_until=now + ttl):
            return True
        begun = model_reviews.c.attempts + 1
        return self._change(review, is_free(now), owner=owner, lease_until=now + ttl, attempts=begun)

    def finish(self, review: ModelReview, owner: str) -> None:
        """Writes what was found. Raises LeaseLost."""
        held = and_(model_reviews.c.state == JudgeState.WAITING, model_reviews.c.owner == owner)
        found = {name: value for name, value in _columns(review).items() if name != "attempts"}
        with self._changing(review):
            finished = self._change(review, held, **found, owner=None, lease_until=None)
        if not finished:
            raise LeaseLost(
                f"{review.model} is no longer in the hand of {owner}", "nothing is to be done: whoever holds it now finishes it"
            )

    def _changing(self, review: ModelReview) -> AbstractContextManager[None]:
        return self._changes.changing(lambda: groups_of(self._connection, self._tenant, review.release))

    def _change(self, review: ModelReview, when: ColumnElement[bool], **values: Any) -> bool:
        here = and_(
            model_reviews.c.tenant == self._tenant, model_reviews.c.release == review.release, model_reviews.c.model == review.model, when
        )
        return self._connection.execute(update(model_reviews).where(here).values(**values)).rowcount == 1


def _columns(review: ModelReview) -> dict[str, Any]:
    return review.model_dump() | {"marks": plain_json(review)["marks"]}
