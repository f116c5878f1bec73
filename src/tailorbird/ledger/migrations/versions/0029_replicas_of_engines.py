"""Replicas of engines: which are drained, and how each gateway sees them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("drained", sa.Text, nullable=False, server_default="[]"))
    op.create_table(
        "gateway_replicas",
        sa.Column("gateway", sa.String, primary_key=True),
        sa.Column("replicas", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("gateway_replicas")
    op.drop_column("tenants", "drained")
