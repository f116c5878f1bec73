"""Indexes by which the newest run of each objective and the open runs are found; and the time below which no clock is believed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_BY = ("objective_name", "state")


def upgrade() -> None:
    for column in _BY:
        op.create_index(f"ix_runs_tenant_{column}_number", "runs", ["tenant", column, "number"])
    op.create_table(
        "time_floor",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("time_floor")
    for column in _BY:
        op.drop_index(f"ix_runs_tenant_{column}_number", "runs")
