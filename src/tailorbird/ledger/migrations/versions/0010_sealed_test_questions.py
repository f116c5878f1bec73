"""What a look at a sealed test asked: the same candidate asked something else is a new look.

Looks of before keep their numbers, and so go on counting; what they asked is not known, so that no later look passes for one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_KEPT = ("tenant", "objective_name", "snapshot", "candidate", "number")


def upgrade() -> None:
    _make(_KEPT, sa.Column("question", sa.String, primary_key=True, server_default=""))


def downgrade() -> None:
    """Of looks that only differ in what they asked, the first stays."""
    op.execute(
        "DELETE FROM looks WHERE EXISTS (SELECT 1 FROM looks AS first WHERE first.tenant = looks.tenant AND first.objective_name = "
        "looks.objective_name AND first.snapshot = looks.snapshot AND first.candidate = looks.candidate AND first.number < looks.number)"
    )
    _make(_KEPT)


def _make(kept: Sequence[str], *added: sa.Column[str]) -> None:
    """Makes the table anew with what it holds, as a primary key cannot be changed on SQLite. It has a row a look."""
    looks = sa.table("looks", *(sa.column(name) for name in kept))
    rows = [dict(row) for row in op.get_bind().execute(sa.select(looks)).mappings()]
    op.drop_table("looks")
    op.create_table(
        "looks",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("objective_name", sa.String, primary_key=True),
        sa.Column("snapshot", sa.String, primary_key=True),
        sa.Column("candidate", sa.String, primary_key=True),
        *added,
        sa.Column("number", sa.Integer, nullable=False),
        sa.UniqueConstraint("tenant", "objective_name", "number"),
    )
    if rows:
        op.bulk_insert(looks, rows)
