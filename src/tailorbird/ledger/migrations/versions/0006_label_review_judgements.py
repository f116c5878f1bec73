"""What reviewers say of a release's answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "judgements",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("release", sa.String, primary_key=True),
        sa.Column("reviewer", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("mark", sa.String, nullable=False),
        sa.Column("candidate_side", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
    )


def downgrade() -> None:
    op.drop_table("judgements")
