"""Row-level security and privileges of roles on PostgreSQL; no table changes.

``ledger/privileges.py`` sets them at the end of every migration: this step is there so that existing databases get them.
"""

from __future__ import annotations

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Nothing more."""


def downgrade() -> None:
    """Nothing: policies of tables that stay do no harm to their owner."""
