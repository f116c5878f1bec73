"""Groups of API keys: whose documents may be shown to who asks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("groups", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("api_keys", "groups")
