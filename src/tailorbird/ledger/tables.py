"""Tables in SQLAlchemy Core. ``migrations/`` creates them; a test holds the two together.

Whatever belongs to a tenant has the tenant first in its primary key, and points to other rows of the same tenant only: a row of another
tenant cannot even be referred to. Columns that have the name of a domain value's field hold that field. ``number`` counts what a tenant
added, from 1: the order of rows, where times may tie. A default is what rows have that were written before there was the column.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from tailorbird.ledger.row_mapping import CanonicalJson, UtcTime

#: One spelling for the names of constraints, so that later migrations can name them.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _tenant() -> Column[str]:
    return Column("tenant", String, ForeignKey("tenants.name"), primary_key=True)


def _key(name: str) -> Column[str]:
    return Column(name, String, primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, String, nullable=False)


def _said(name: str) -> Column[str]:
    return Column(name, String, nullable=False, server_default="")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _used() -> list[Column[Any]]:
    counts = [_count(name) for name in ("requests", "input_tokens", "output_tokens")]
    start = Column("start", UtcTime, primary_key=True)
    return [_key("gateway"), _key("period"), start, *counts, Column("money", Float, nullable=False)]


tenants = Table(
    "tenants",
    metadata,
    _key("name"),
    Column("created_at", UtcTime, nullable=False),
    Column("suspended_at", UtcTime),
    Column("limits", CanonicalJson, nullable=False, server_default="{}"),
    Column("policy", CanonicalJson, nullable=False, server_default="{}"),
    Column("places", CanonicalJson, nullable=False, server_default="[]"),
)

identities = Table(
    "identities",
    metadata,
    _tenant(),
    _key("name"),
    Column("roles", CanonicalJson, nullable=False),
    _text("public_key"),
    Column("created_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    Column("former_keys", CanonicalJson, nullable=False, server_default="[]"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _tenant(),
    _key("id"),
    _text("name"),
    _text("secret_sha256"),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("scopes", CanonicalJson, nullable=False, server_default='["answer","feedback"]'),
    Column("groups", CanonicalJson, nullable=False, server_default="[]"),
    Column("limits", CanonicalJson, nullable=False, server_default="{}"),
    UniqueConstraint("id"),
)

sessions = Table(
    "sessions",
    metadata,
    _tenant(),
    _key("id"),
    _text("identity"),
    _text("secret_sha256"),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    UniqueConstraint("id"),
)

records = Table(
    "records",
    metadata,
    _tenant(),
    _key("kind"),
    _key("digest"),
    Column("number", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "tenant", "kind", "number"),
)

runs = Table(
    "runs",
    metadata,
    _tenant(),
    _key("id"),
    Column("number", Integer, nullable=False),
    _text("objective_name"),
    _text("objective"),
    _text("fingerprint"),
    _text("folder"),
    _text("created_by"),
    Column("created_at", UtcTime, nullable=False),
    _text("state"),
    Column("source", String),
    Column("inputs", String),
    UniqueConstraint("tenant", "fingerprint"),
    Index(None, "tenant", "number"),
    Index(None, "state", "created_at"),
    Index(None, "tenant", "objective_name", "number"),
    Index(None, "tenant", "state", "number"),
)

steps = Table(
    "steps",
    metadata,
    _tenant(),
    _key("run"),
    _key("name"),
    Column("position", Integer, nullable=False),
    _text("state"),
    Column("owner", String),
    Column("lease_until", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("result", String),
    Column("error", Text),
    Column("message", Text),
    Column("hint", Text),
    Column("seconds", Float, nullable=False),
    Column("progress", CanonicalJson),
    Column("leased_at", UtcTime),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("reached", Integer, nullable=False, server_default="0"),
    ForeignKeyConstraint(["tenant", "run"], ["runs.tenant", "runs.id"]),
    UniqueConstraint("tenant", "run", "position"),
)

#: A release of the first schema has no dossier.
releases = Table(
    "releases",
    metadata,
    _tenant(),
    _key("digest"),
    Column("number", Integer, nullable=False),
    _text("state"),
    Column("content", Text, nullable=False),
    Column("dossier", Text),
    Column("signature", CanonicalJson, nullable=False),
    Index(None, "tenant", "number"),
)

approvals = Table(
    "approvals",
    metadata,
    _tenant(),
    _key("release"),
    _key("identity"),
    Column("number", Integer, nullable=False),
    Column("dossier", String),
    _text("role"),
    _text("decision"),
    Column("reason", Text, nullable=False),
    Column("signature", CanonicalJson, nullable=False),
    ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
)

judgements = Table(
    "judgements",
    metadata,
    _tenant(),
    _key("release"),
    _key("reviewer"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("mark"),
    _text("candidate_side"),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
)

#: ``owner`` and ``lease_until`` say who has a judge model in hand.
model_reviews = Table(
    "model_reviews",
    metadata,
    _tenant(),
    _key("release"),
    _key("model"),
    Column("number", Integer, nullable=False),
    _text("asked_by"),
    Column("asked_at", UtcTime, nullable=False),
    Column("bar", Float, nullable=False),
    _text("state"),
    Column("base", String),
    Column("related", Text, nullable=False),
    _text("engine"),
    Column("marks", CanonicalJson, nullable=False),
    Column("error", String),
    Column("judged_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("owner", String),
    Column("lease_until", UtcTime),
    ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
    UniqueConstraint("tenant", "release", "number"),
    Index(None, "state", "asked_at"),
)

looks = Table(
    "looks",
    metadata,
    _tenant(),
    _key("objective_name"),
    _key("snapshot"),
    _key("candidate"),
    Column("question", String, primary_key=True, server_default=""),
    Column("number", Integer, nullable=False),
    UniqueConstraint("tenant", "objective_name", "number"),
)

splits = Table("splits", metadata, _tenant(), _key("objective_name"), _key("row_id"), _text("split"), _text("row_group"))

#: Every version an alias ever had; the one with the highest version is current.
aliases = Table(
    "aliases",
    metadata,
    _tenant(),
    _key("name"),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("targets", CanonicalJson, nullable=False),
    Column("previous", CanonicalJson, nullable=False),
    Column("moved_at", UtcTime, nullable=False),
    _text("moved_by"),
    _said("salt"),
    Column("mirror", String),
)

requests = Table(
    "requests",
    metadata,
    _tenant(),
    _key("id"),
    _text("key"),
    _text("alias"),
    Column("release", String),
    _text("arm"),
    _text("route"),
    Column("status", Integer, nullable=False),
    _text("outcome"),
    Column("error", String),
    Column("prediction", Text),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("characters", Integer, nullable=False, server_default=text("0")),
    Column("sketch", String, nullable=False, server_default=""),
    Column("confidence", Float),
    Column("cost", Float, nullable=False, server_default=text("0")),
    Column("version", Integer, nullable=False, server_default=text("0")),
    _said("unit"),
    _flag("malformed"),
    _flag("referred"),
    Column("agrees", Boolean),
    _said("channel"),
    _said("language"),
    Index(None, "tenant", "at", "id"),
    Index(None, "tenant", "release", "at"),
    Index(None, "tenant", "alias", "version"),
)

#: What requests have used up, written in the transaction that writes their rows. ``gateway`` is one process's life.
usage = Table("usage", metadata, _tenant(), *_used())

#: As ``usage``, of API keys that have limits of their own.
key_usage = Table("key_usage", metadata, _tenant(), _key("key"), *_used())

#: Artifacts that a tenant's work has stored, each once. ``name`` is the digest's hexadecimal part: it counts an artifact, and keeps none.
stored = Table("stored", metadata, _tenant(), _key("name"), _count("bytes"))

feedback = Table(
    "feedback",
    metadata,
    _tenant(),
    _key("request"),
    _key("kind"),
    _key("source"),
    Column("value", Text, nullable=False),
    Column("score", Float),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "request"], ["requests.tenant", "requests.id"]),
    Index(None, "tenant", "at"),
)

reviews = Table(
    "reviews",
    metadata,
    _tenant(),
    _key("request"),
    _text("alias"),
    _text("reason"),
    _text("state"),
    Column("queued_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("settled_by", String),
    Column("label", Text),
    ForeignKeyConstraint(["tenant", "request"], ["requests.tenant", "requests.id"]),
    Index(None, "tenant", "state", "queued_at"),
)

#: Words of requests, redacted; only of tenants whose policy says so, and only for a while.
contents = Table(
    "contents",
    metadata,
    _tenant(),
    _key("request"),
    Column("text", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "request"], ["requests.tenant", "requests.id"]),
    Index(None, "tenant", "expires_at"),
)

#: ``body`` is the canonical JSON of the rollout; the columns beside it are those by which rollouts are found.
rollouts = Table(
    "rollouts",
    metadata,
    _tenant(),
    _key("id"),
    Column("number", Integer, nullable=False),
    _text("alias"),
    _text("state"),
    Column("revision", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "tenant", "number"),
)

signals = Table(
    "signals",
    metadata,
    _tenant(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("objective"),
    Column("release", String),
    _text("name"),
    Column("value", Float, nullable=False),
    Column("bound", Float),
    Column("p_value", Float),
    Column("n", Integer, nullable=False),
    _text("severity"),
    Column("text", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "tenant", "objective", "number"),
)

decisions = Table(
    "decisions",
    metadata,
    _tenant(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("objective"),
    _text("row"),
    _text("action"),
    _text("label"),
    _text("by"),
    Column("at", UtcTime, nullable=False),
    Index(None, "tenant", "objective", "row"),
)

#: ``owner`` and ``lease_until`` say who carries an erasure out.
erasures = Table(
    "erasures",
    metadata,
    _tenant(),
    _key("id"),
    Column("number", Integer, nullable=False),
    _text("subject"),
    _text("by"),
    Column("at", UtcTime, nullable=False),
    _text("state"),
    Column("certificate", String),
    Column("signature", CanonicalJson),
    Column("owner", String),
    Column("lease_until", UtcTime),
    UniqueConstraint("tenant", "subject"),
)

#: Secrets in hex, one a name: what pseudonyms and salts are made with.
secrets = Table("secrets", metadata, _tenant(), _key("name"), _text("value"))

# Above tenants.

#: The Merkle log. ``body`` is the canonical JSON of the event, byte for byte what ``leaf_hash`` covers.
log_entries = Table(
    "log_entries",
    metadata,
    Column("index", Integer, primary_key=True, autoincrement=False),
    _text("leaf_hash"),
    _text("tenant"),
    _text("subject"),
    Column("body", Text, nullable=False),
    Index(None, "subject", "index"),
    Index(None, "tenant", "index"),
)

#: Hashes (in hex) of complete subtrees of the log, of 2**level leaves each, at levels 4, 8, 12 and so on (``lognodes.py``).
log_nodes = Table(
    "log_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("hash"),
)

#: One row: the log's size and its right edge (hashes in hex, largest subtree first).
log_frontier = Table(
    "log_frontier",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("edge", CanonicalJson, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("origin"),
    Column("size", Integer, nullable=False),
    _text("root"),
    Column("note", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

#: Gateways that serve, when each last said so, and up to which move of any alias it answers as the record says.
gateways = Table(
    "gateways",
    metadata,
    _key("id"),
    Column("moves", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
)

#: One row, once there is any: the latest time that a process has seen (``timefloor.py``).
time_floor = Table(
    "time_floor", metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("at", UtcTime, nullable=False)
)

#: One row: how often any alias was moved. A counter in a row, so that nobody can see move 8 before move 7 (as with a database sequence).
alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
)
