"""Limits of API keys with what each used, and what each tenant has stored.

What was stored before is counted when its tenant next stores something: this needs the artifacts, which are not in the database.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("limits", sa.Text, nullable=False, server_default="{}"))
    op.create_table(
        "key_usage",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("gateway", sa.String, primary_key=True),
        sa.Column("period", sa.String, primary_key=True),
        sa.Column("start", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("money", sa.Float, nullable=False),
    )
    op.create_table(
        "stored",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("stored")
    op.drop_table("key_usage")
    op.drop_column("api_keys", "limits")
