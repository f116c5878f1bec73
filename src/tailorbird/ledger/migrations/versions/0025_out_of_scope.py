"""Requests that none of the labels fits are marked in their rows. Nothing was before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("requests", sa.Column("out_of_scope", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("requests", "out_of_scope")
