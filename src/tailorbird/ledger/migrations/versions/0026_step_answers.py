"""Answers that other nodes gave for a step, by the part of its items. Nothing was noted before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("steps", sa.Column("answers", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("steps", "answers")
