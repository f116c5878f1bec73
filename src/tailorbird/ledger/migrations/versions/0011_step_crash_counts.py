"""How often a step ended the process that held it, so that no worker tries it again and again.

``leased_at`` is when its lease was taken, ``reached`` how far the dead got at most.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("steps", sa.Column("leased_at", sa.DateTime(timezone=True)))
    op.add_column("steps", sa.Column("deaths", sa.Integer, nullable=False, server_default="0"))
    op.add_column("steps", sa.Column("reached", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("leased_at", "deaths", "reached"):
        op.drop_column("steps", name)
