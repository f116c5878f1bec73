"""Places of tenants: where what they submit may be read from. Nobody has any until an admin of the host says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("places", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("tenants", "places")
