"""Indexes by which the newest run of each objective, the open runs and the newest requests are found; and the time below which no clock is
believed.

The index of requests by time gets their ids too: that is the whole order in which they are listed, so no database sorts them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_BY = ("objective_name", "state")


def upgrade() -> None:
    for column in _BY:
        op.create_index(f"ix_runs_tenant_{column}_number", "runs", ["tenant", column, "number"])
    op.create_index("ix_requests_tenant_at_id", "requests", ["tenant", "at", "id"])
    op.drop_index("ix_requests_tenant_at", "requests")
    op.create_table(
        "time_floor",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("time_floor")
    op.create_index("ix_requests_tenant_at", "requests", ["tenant", "at"])
    op.drop_index("ix_requests_tenant_at_id", "requests")
    for column in _BY:
        op.drop_index(f"ix_runs_tenant_{column}_number", "runs")
