"""Who admitted and who disabled an identity, and identities that wait for a second admin."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("identities", sa.Column("admitted_by", sa.Text, nullable=False, server_default="[]"))
    op.add_column("identities", sa.Column("pending", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("identities", sa.Column("disabled_by", sa.String))


def downgrade() -> None:
    op.drop_column("identities", "disabled_by")
    op.drop_column("identities", "pending")
    op.drop_column("identities", "admitted_by")
