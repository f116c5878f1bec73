"""Dossiers beside releases, sessions, signals, progress of steps, and what watching needs to know of a request.

Every change is one that SQLite makes in place, so that a table of many rows is not copied. Going back takes away what this added; rows that
only the newer version can read stay (a backup made before is the way back for those).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for table, column in _new_columns():
        op.add_column(table, column)
    for table, columns in _NEW_INDEXES:
        op.create_index(_index_name(table, columns), table, columns)
    _sessions()
    _signals()


def downgrade() -> None:
    op.drop_table("signals")
    op.drop_table("sessions")
    for table, columns in _NEW_INDEXES:
        op.drop_index(_index_name(table, columns), table)
    for table, column in _new_columns():
        op.drop_column(table, column.name)


_NEW_INDEXES = [("runs", ["state", "created_at"]), ("requests", ["tenant", "release", "at"])]


def _new_columns() -> list[tuple[str, sa.Column[Any]]]:
    nothing = sa.text("0")
    return [
        ("identities", sa.Column("former_keys", sa.Text, nullable=False, server_default="[]")),
        ("runs", sa.Column("source", sa.String)),
        ("runs", sa.Column("inputs", sa.String)),
        ("steps", sa.Column("progress", sa.Text)),
        ("releases", sa.Column("dossier", sa.Text)),
        ("approvals", sa.Column("dossier", sa.String)),
        ("requests", sa.Column("characters", sa.Integer, nullable=False, server_default=nothing)),
        ("requests", sa.Column("sketch", sa.String, nullable=False, server_default="")),
        ("requests", sa.Column("confidence", sa.Float)),
        ("requests", sa.Column("cost", sa.Float, nullable=False, server_default=nothing)),
    ]


def _sessions() -> None:
    op.create_table(
        "sessions",
        _tenant(),
        sa.Column("id", sa.String, primary_key=True),
        _text("identity"),
        _text("secret_sha256"),
        _time("created_at"),
        _time("expires_at"),
        _time("ended_at", nullable=True),
        sa.UniqueConstraint("id"),
    )


def _signals() -> None:
    op.create_table(
        "signals",
        _tenant(),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        _text("objective"),
        sa.Column("release", sa.String),
        _text("name"),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("bound", sa.Float),
        sa.Column("p_value", sa.Float),
        sa.Column("n", sa.Integer, nullable=False),
        _text("severity"),
        sa.Column("text", sa.Text, nullable=False),
        _time("at"),
    )
    op.create_index("ix_signals_tenant_objective_number", "signals", ["tenant", "objective", "number"])


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _index_name(table: str, columns: list[str]) -> str:
    return f"ix_{table}_{'_'.join(columns)}"
