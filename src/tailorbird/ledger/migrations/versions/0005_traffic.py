"""Limits and policies of tenants, scopes of keys, usage, feedback, reviews, kept content, rollouts, gateways.

Every change is one that SQLite makes in place. Going back takes away what this added.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for table, column in _new_columns():
        op.add_column(table, column)
    op.create_index("ix_requests_tenant_alias_version", "requests", ["tenant", "alias", "version"])
    _usage()
    _feedback()
    _reviews()
    _contents()
    _rollouts()
    op.create_table("gateways", _key("id"), sa.Column("moves", sa.Integer, nullable=False), _time("at"))


def downgrade() -> None:
    for table in ("gateways", "rollouts", "contents", "reviews", "feedback", "usage"):
        op.drop_table(table)
    op.drop_index("ix_requests_tenant_alias_version", "requests")
    for table, column in _new_columns():
        op.drop_column(table, column.name)


def _new_columns() -> list[tuple[str, sa.Column[Any]]]:
    nothing = sa.text("0")
    return [
        ("tenants", sa.Column("suspended_at", sa.DateTime(timezone=True))),
        ("tenants", sa.Column("limits", sa.Text, nullable=False, server_default="{}")),
        ("tenants", sa.Column("policy", sa.Text, nullable=False, server_default="{}")),
        ("api_keys", sa.Column("scopes", sa.Text, nullable=False, server_default='["answer","feedback"]')),
        ("aliases", sa.Column("salt", sa.String, nullable=False, server_default="")),
        ("aliases", sa.Column("mirror", sa.String)),
        ("requests", sa.Column("version", sa.Integer, nullable=False, server_default=nothing)),
        ("requests", sa.Column("unit", sa.String, nullable=False, server_default="")),
        ("requests", sa.Column("malformed", sa.Boolean, nullable=False, server_default=sa.false())),
        ("requests", sa.Column("referred", sa.Boolean, nullable=False, server_default=sa.false())),
        ("requests", sa.Column("agrees", sa.Boolean)),
        ("requests", sa.Column("channel", sa.String, nullable=False, server_default="")),
        ("requests", sa.Column("language", sa.String, nullable=False, server_default="")),
    ]


def _usage() -> None:
    counts = (sa.Column(name, sa.BigInteger, nullable=False) for name in ("requests", "input_tokens", "output_tokens"))
    start = sa.Column("start", sa.DateTime(timezone=True), primary_key=True)
    op.create_table("usage", _tenant(), _key("gateway"), _key("period"), start, *counts, sa.Column("money", sa.Float, nullable=False))


def _feedback() -> None:
    said = (sa.Column("value", sa.Text, nullable=False), sa.Column("score", sa.Float), _time("at"))
    op.create_table("feedback", _tenant(), _key("request"), _key("kind"), _key("source"), *said, _of_request())
    op.create_index("ix_feedback_tenant_at", "feedback", ["tenant", "at"])


def _reviews() -> None:
    op.create_table(
        "reviews",
        _tenant(),
        _key("request"),
        _text("alias"),
        _text("reason"),
        _text("state"),
        _time("queued_at"),
        _time("settled_at", nullable=True),
        sa.Column("settled_by", sa.String),
        sa.Column("label", sa.Text),
        _of_request(),
    )
    op.create_index("ix_reviews_tenant_state_queued_at", "reviews", ["tenant", "state", "queued_at"])


def _contents() -> None:
    words = (sa.Column(name, sa.Text, nullable=False) for name in ("text", "answer"))
    op.create_table("contents", _tenant(), _key("request"), *words, _time("at"), _time("expires_at"), _of_request())
    op.create_index("ix_contents_tenant_expires_at", "contents", ["tenant", "expires_at"])


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        _tenant(),
        _key("id"),
        sa.Column("number", sa.Integer, nullable=False),
        _text("alias"),
        _text("state"),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_rollouts_tenant_number", "rollouts", ["tenant", "number"])


def _of_request() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant", "request"], ["requests.tenant", "requests.id"])


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
