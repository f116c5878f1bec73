"""Search path of ``log_leaves`` on PostgreSQL, and privileges on looks and temporary objects; no table changes.

``ledger/privileges.py`` sets them at the end of every migration: this step is there so that existing databases get them.
"""

from __future__ import annotations

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Nothing more."""


def downgrade() -> None:
    """Nothing: what a role may not do does no harm to the owner."""
