"""What judge models say of a release's answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "model_reviews",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("release", sa.String, primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("asked_by", sa.String, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bar", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("base", sa.String),
        sa.Column("related", sa.Text, nullable=False),
        sa.Column("engine", sa.String, nullable=False),
        sa.Column("marks", sa.Text, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("judged_at", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
        sa.UniqueConstraint("tenant", "release", "number"),
    )
    op.create_index("ix_model_reviews_state_asked_at", "model_reviews", ["state", "asked_at"])


def downgrade() -> None:
    op.drop_table("model_reviews")
