"""The first schema: everything in ``tables.py`` as of version 0.1."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _identities()
    _records()
    _runs()
    _releases()
    _tests()
    _deployment()
    _log()


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False)


def _long(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _place(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def _identities() -> None:
    op.create_table("tenants", _key("name"), _time("created_at"))
    disabled = _time("disabled_at", nullable=True)
    op.create_table("identities", _tenant(), _key("name"), _long("roles"), _text("public_key"), _time("created_at"), disabled)
    ends = (_time("expires_at", nullable=True), _time("revoked_at", nullable=True))
    op.create_table(
        "api_keys", _tenant(), _key("id"), _text("name"), _text("secret_sha256"), _time("created_at"), *ends, sa.UniqueConstraint("id")
    )


def _records() -> None:
    op.create_table("records", _tenant(), _key("kind"), _key("digest"), _whole("number"), _long("body"))
    _index("records", "tenant", "kind", "number")


def _runs() -> None:
    op.create_table(
        "runs",
        _tenant(),
        _key("id"),
        _whole("number"),
        _text("objective_name"),
        _text("objective"),
        _text("fingerprint"),
        _text("folder"),
        _text("created_by"),
        _time("created_at"),
        _text("state"),
        sa.UniqueConstraint("tenant", "fingerprint"),
    )
    _index("runs", "tenant", "number")
    op.create_table(
        "steps",
        _tenant(),
        _key("run"),
        _key("name"),
        _whole("position"),
        _text("state"),
        sa.Column("owner", sa.String),
        _time("lease_until", nullable=True),
        _whole("attempts"),
        sa.Column("result", sa.String),
        sa.Column("error", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "run"], ["runs.tenant", "runs.id"]),
        sa.UniqueConstraint("tenant", "run", "position"),
    )


def _releases() -> None:
    op.create_table("releases", _tenant(), _key("digest"), _whole("number"), _text("state"), _long("content"), _long("signature"))
    _index("releases", "tenant", "number")
    op.create_table(
        "approvals",
        _tenant(),
        _key("release"),
        _key("identity"),
        _whole("number"),
        _text("role"),
        _text("decision"),
        _long("reason"),
        _long("signature"),
        sa.ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
    )


def _tests() -> None:
    once = sa.UniqueConstraint("tenant", "objective_name", "number")
    op.create_table("looks", _tenant(), _key("objective_name"), _key("snapshot"), _key("candidate"), _whole("number"), once)
    op.create_table("splits", _tenant(), _key("objective_name"), _key("row_id"), _text("split"), _text("row_group"))


def _deployment() -> None:
    op.create_table(
        "aliases", _tenant(), _key("name"), _place("version"), _long("targets"), _long("previous"), _time("moved_at"), _text("moved_by")
    )
    op.create_table(
        "requests",
        _tenant(),
        _key("id"),
        _text("key"),
        _text("alias"),
        sa.Column("release", sa.String),
        _text("arm"),
        _text("route"),
        _whole("status"),
        _text("outcome"),
        sa.Column("error", sa.String),
        sa.Column("prediction", sa.Text),
        _whole("prompt_tokens"),
        _whole("completion_tokens"),
        sa.Column("latency_ms", sa.Float, nullable=False),
        _time("at"),
    )
    _index("requests", "tenant", "at")
    moves = op.create_table("alias_moves", _place("id"), _whole("count"))
    op.bulk_insert(moves, [{"id": 1, "count": 0}])


def _log() -> None:
    op.create_table("log_entries", _place("index"), _text("leaf_hash"), _text("tenant"), _text("subject"), _long("body"))
    _index("log_entries", "subject", "index")
    frontier = op.create_table("log_frontier", _place("id"), _whole("size"), _long("edge"))
    op.bulk_insert(frontier, [{"id": 1, "size": 0, "edge": "[]"}])
    op.create_table("checkpoints", _place("number"), _text("origin"), _whole("size"), _text("root"), _long("note"), _time("at"))
