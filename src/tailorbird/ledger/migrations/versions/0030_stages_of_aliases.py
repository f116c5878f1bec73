"""The stage of an alias: its name no longer says that it is one of staging. Every alias of before is one of production."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"

_KEPT = ("tenant", "name", "version", "targets", "previous", "moved_at", "moved_by", "salt", "mirror", "move")


def upgrade() -> None:
    _make([dict(row, stage="production") for row in _rows(*_KEPT)], sa.Column("stage", sa.String, primary_key=True))


def downgrade() -> None:
    """A rehearsal ends with the drill that it belongs to: none of them stays."""
    found = _rows(*_KEPT, "stage")
    _make([{name: row[name] for name in _KEPT} for row in found if row["stage"] == "production"])


def _rows(*names: str) -> list[sa.RowMapping]:
    return list(op.get_bind().execute(sa.select(sa.table("aliases", *map(sa.column, names)))).mappings())


def _make(rows: list[dict[str, object]], *added: sa.Column[str]) -> None:
    """Makes the table anew, as a primary key cannot be changed on SQLite."""
    op.drop_table("aliases")
    op.create_table(
        "aliases",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        *added,
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("targets", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved_by", sa.String, nullable=False),
        sa.Column("salt", sa.String, nullable=False, server_default=""),
        sa.Column("mirror", sa.String),
        sa.Column("move", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("ix_aliases_move", "aliases", ["move"])
    if rows:
        op.bulk_insert(sa.table("aliases", *(sa.column(name) for name in rows[0])), rows)
