"""What reviewers said, a row a judgement.

In: judgements. Out: the same, in order. Must not know: sheets, sides, what the judgements add up to.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, update

from tailorbird.domain.errors import Conflict
from tailorbird.domain.review import Judgement
from tailorbird.domain.value import Digest
from tailorbird.ledger.rows import insert_new, select_fields, value_of
from tailorbird.ledger.tables import judgements


class Judgements:
    """Implements ``JudgementRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, judgement: Judgement) -> None:
        """Adds a judgement. Raises Conflict when this reviewer has judged this item already."""
        if not insert_new(self._connection, judgements, judgement.model_dump() | {"tenant": self._tenant}):
            raise Conflict(
                f"{judgement.reviewer} has judged item {judgement.number} already", "go on with the next one", code="judged_already"
            )

    def of(self, release: Digest) -> tuple[Judgement, ...]:
        """All judgements of a release, in the order in which they were given."""
        asked = select_fields(judgements, Judgement).where(judgements.c.tenant == self._tenant, judgements.c.release == release)
        rows = self._connection.execute(asked.order_by(judgements.c.at, judgements.c.reviewer, judgements.c.number))
        return tuple(value_of(Judgement, row) for row in rows)

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
