"""State of a release under a progressive rollout: ``rolling_out``, which was ``canary`` before. No table changes."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("UPDATE releases SET state = 'rolling_out' WHERE state = 'canary'")


def downgrade() -> None:
    op.execute("UPDATE releases SET state = 'canary' WHERE state = 'rolling_out'")
