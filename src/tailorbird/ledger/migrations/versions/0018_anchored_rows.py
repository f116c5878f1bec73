"""Rows that the event log anchors, and the seal of its head.

What stands in an older database is anchored when it is opened next (``ledger/adoption.py``): this needs the rows as values.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("log_frontier", sa.Column("state", sa.String, nullable=False, server_default=""))
    op.add_column("log_frontier", sa.Column("seal", sa.String, nullable=False, server_default=""))
    op.create_table(
        "anchored_rows",
        sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("place", sa.String, primary_key=True),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.create_index("ix_anchored_rows_scope", "anchored_rows", ["scope"])
    op.create_table(
        "anchor_nodes",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("anchor_nodes")
    op.drop_table("anchored_rows")
    op.drop_column("log_frontier", "seal")
    op.drop_column("log_frontier", "state")
