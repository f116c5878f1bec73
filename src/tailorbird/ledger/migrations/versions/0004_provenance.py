"""Decisions about rows, erasures, and the secrets with which pseudonyms and salts are made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _decisions()
    _erasures()
    op.create_table(
        "secrets",
        _tenant(),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("secrets")
    op.drop_table("erasures")
    op.drop_index("ix_decisions_tenant_objective_row", "decisions")
    op.drop_table("decisions")


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True)


def _decisions() -> None:
    op.create_table(
        "decisions",
        _tenant(),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("objective", "row", "action", "label", "by")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_decisions_tenant_objective_row", "decisions", ["tenant", "objective", "row"])


def _erasures() -> None:
    op.create_table(
        "erasures",
        _tenant(),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("certificate", sa.String),
        sa.Column("signature", sa.Text),
        sa.Column("owner", sa.String),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("tenant", "subject"),
    )
