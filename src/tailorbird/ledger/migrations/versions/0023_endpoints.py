"""Endpoints of tenants: hosted models that they may ask. Nobody has any until an admin of the host registers one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("endpoints", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("tenants", "endpoints")
