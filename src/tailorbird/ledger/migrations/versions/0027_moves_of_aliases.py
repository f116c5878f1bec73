"""Which move of all aliases' each version of an alias was; 0 where it is not known, as for every version that was there before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.add_column("aliases", sa.Column("move", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.create_index("ix_aliases_move", "aliases", ["move"])


def downgrade() -> None:
    op.drop_index("ix_aliases_move", "aliases")
    op.drop_column("aliases", "move")
