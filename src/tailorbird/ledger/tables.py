"""Tables in SQLAlchemy Core. ``database.py`` creates them; a test holds the two together.

Whatever belongs to a tenant has the tenant first in its primary key, and points to other rows of the same tenant only: a row of another
tenant cannot even be referred to. Columns that have the name of a domain value's field hold that field. ``number`` counts what a tenant
added, from 1: the order of rows, where times may tie. A default is what rows have that were written before there was the column.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tailorbird.ledger.columns import count_column, flag_column, key_column, said_column, tenant_column, text_column
from tailorbird.ledger.columns import metadata as metadata
from tailorbird.ledger.log_tables import anchor_nodes as anchor_nodes
from tailorbird.ledger.log_tables import anchored_rows as anchored_rows
from tailorbird.ledger.log_tables import checkpoints as checkpoints
from tailorbird.ledger.log_tables import log_entries as log_entries
from tailorbird.ledger.log_tables import log_frontier as log_frontier
from tailorbird.ledger.log_tables import log_nodes as log_nodes
from tailorbird.ledger.row_mapping import CanonicalJson, UtcTime


def _used() -> list[Column[Any]]:
    counts = [count_column(name) for name in ("requests", "input_tokens", "output_tokens")]
    start = Column("start", UtcTime, primary_key=True)
    return [key_column("gateway"), key_column("period"), start, *counts, Column("money", Float, nullable=False)]


tenants = Table(
    "tenants",
    metadata,
    key_column("name"),
    Column("created_at", UtcTime, nullable=False),
    Column("suspended_at", UtcTime),
    Column("limits", CanonicalJson, nullable=False, server_default="{}"),
    Column("policy", CanonicalJson, nullable=False, server_default="{}"),
    Column("places", CanonicalJson, nullable=False, server_default="[]"),
    Column("endpoints", CanonicalJson, nullable=False, server_default="[]"),
)

identities = Table(
    "identities",
    metadata,
    tenant_column(),
    key_column("name"),
    Column("roles", CanonicalJson, nullable=False),
    text_column("public_key"),
    Column("created_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    Column("former_keys", CanonicalJson, nullable=False, server_default="[]"),
    Column("admitted_by", CanonicalJson, nullable=False, server_default="[]"),
    flag_column("pending"),
    Column("disabled_by", String),
)

api_keys = Table(
    "api_keys",
    metadata,
    tenant_column(),
    key_column("id"),
    text_column("name"),
    text_column("secret_sha256"),
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
    tenant_column(),
    key_column("id"),
    text_column("identity"),
    text_column("secret_sha256"),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    UniqueConstraint("id"),
)

records = Table(
    "records",
    metadata,
    tenant_column(),
    key_column("kind"),
    key_column("digest"),
    Column("number", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "tenant", "kind", "number"),
)

runs = Table(
    "runs",
    metadata,
    tenant_column(),
    key_column("id"),
    Column("number", Integer, nullable=False),
    text_column("objective_name"),
    text_column("objective"),
    text_column("fingerprint"),
    text_column("folder"),
    text_column("created_by"),
    Column("created_at", UtcTime, nullable=False),
    text_column("state"),
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
    tenant_column(),
    key_column("run"),
    key_column("name"),
    Column("position", Integer, nullable=False),
    text_column("state"),
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
    Column("paid", Float, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(["tenant", "run"], ["runs.tenant", "runs.id"]),
    UniqueConstraint("tenant", "run", "position"),
)

releases = Table(
    "releases",
    metadata,
    tenant_column(),
    key_column("digest"),
    Column("number", Integer, nullable=False),
    text_column("state"),
    Column("content", Text, nullable=False),
    Column("dossier", Text, nullable=False),
    Column("signature", CanonicalJson, nullable=False),
    Index(None, "tenant", "number"),
)

approvals = Table(
    "approvals",
    metadata,
    tenant_column(),
    key_column("release"),
    key_column("identity"),
    Column("number", Integer, nullable=False),
    Column("dossier", String),
    text_column("role"),
    text_column("decision"),
    Column("reason", Text, nullable=False),
    Column("signature", CanonicalJson, nullable=False),
    ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
)

judgements = Table(
    "judgements",
    metadata,
    tenant_column(),
    key_column("release"),
    key_column("reviewer"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    text_column("mark"),
    text_column("candidate_side"),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "release"], ["releases.tenant", "releases.digest"]),
)

#: ``owner`` and ``lease_until`` say who has a judge model in hand.
model_reviews = Table(
    "model_reviews",
    metadata,
    tenant_column(),
    key_column("release"),
    key_column("model"),
    Column("number", Integer, nullable=False),
    text_column("asked_by"),
    Column("asked_at", UtcTime, nullable=False),
    Column("bar", Float, nullable=False),
    text_column("state"),
    Column("base", String),
    Column("related", Text, nullable=False),
    text_column("engine"),
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
    tenant_column(),
    key_column("objective_name"),
    key_column("snapshot"),
    key_column("candidate"),
    Column("question", String, primary_key=True, server_default=""),
    Column("number", Integer, nullable=False),
    UniqueConstraint("tenant", "objective_name", "number"),
)

splits = Table(
    "splits", metadata, tenant_column(), key_column("objective_name"), key_column("row_id"), text_column("split"), text_column("row_group")
)

#: Every version an alias ever had; the one with the highest version is current. ``move``: the count of all aliases' moves that it made,
#: 0 where a version of tailorbird wrote it that did not note it.
aliases = Table(
    "aliases",
    metadata,
    tenant_column(),
    key_column("name"),
    key_column("stage"),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("targets", CanonicalJson, nullable=False),
    Column("previous", CanonicalJson, nullable=False),
    Column("moved_at", UtcTime, nullable=False),
    text_column("moved_by"),
    said_column("salt"),
    Column("mirror", String),
    Column("move", Integer, nullable=False, server_default=text("0")),
    Index(None, "move"),
)

requests = Table(
    "requests",
    metadata,
    tenant_column(),
    key_column("id"),
    text_column("key"),
    text_column("alias"),
    Column("release", String),
    text_column("arm"),
    text_column("route"),
    Column("status", Integer, nullable=False),
    text_column("outcome"),
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
    said_column("unit"),
    flag_column("malformed"),
    flag_column("referred"),
    flag_column("out_of_scope"),
    Column("agrees", Boolean),
    said_column("channel"),
    said_column("language"),
    Column("endpoint", String, nullable=False, server_default=""),
    Column("paid", Float, nullable=False, server_default=text("0")),
    Index(None, "tenant", "at", "id"),
    Index(None, "tenant", "release", "at"),
    Index(None, "tenant", "alias", "version"),
    Index("requests_paid", "tenant", "endpoint", "at", sqlite_where=text("endpoint <> ''"), postgresql_where=text("endpoint <> ''")),
)

#: What requests have used up, written in the transaction that writes their rows. ``gateway`` is one process's life.
usage = Table("usage", metadata, tenant_column(), *_used())

#: As ``usage``, of API keys that have limits of their own.
key_usage = Table("key_usage", metadata, tenant_column(), key_column("key"), *_used())

#: Artifacts that a tenant's work has stored, each once. ``name`` is the digest's hexadecimal part: it counts an artifact, and keeps none.
stored = Table("stored", metadata, tenant_column(), key_column("name"), count_column("bytes"))

#: What feedback is a label: as in the index, which serves only who asks so.
ONLY_LABELS = "kind = 'label'"

feedback = Table(
    "feedback",
    metadata,
    tenant_column(),
    key_column("request"),
    key_column("kind"),
    key_column("source"),
    Column("value", Text, nullable=False),
    Column("score", Float),
    Column("at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "request"], ["requests.tenant", "requests.id"]),
    Index(None, "tenant", "at"),
    Index("feedback_labels", "tenant", "request", sqlite_where=text(ONLY_LABELS), postgresql_where=text(ONLY_LABELS)),
)

reviews = Table(
    "reviews",
    metadata,
    tenant_column(),
    key_column("request"),
    text_column("alias"),
    text_column("reason"),
    text_column("state"),
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
    tenant_column(),
    key_column("request"),
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
    tenant_column(),
    key_column("id"),
    Column("number", Integer, nullable=False),
    text_column("alias"),
    text_column("state"),
    Column("revision", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "tenant", "number"),
)

signals = Table(
    "signals",
    metadata,
    tenant_column(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    text_column("objective"),
    Column("release", String),
    text_column("name"),
    Column("value", Float, nullable=False),
    Column("bound", Float),
    Column("p_value", Float),
    Column("n", Integer, nullable=False),
    text_column("severity"),
    Column("text", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "tenant", "objective", "number"),
)

decisions = Table(
    "decisions",
    metadata,
    tenant_column(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    text_column("objective"),
    text_column("row"),
    text_column("action"),
    text_column("label"),
    text_column("by"),
    Column("at", UtcTime, nullable=False),
    Index(None, "tenant", "objective", "row"),
)

#: ``owner`` and ``lease_until`` say who carries an erasure out.
erasures = Table(
    "erasures",
    metadata,
    tenant_column(),
    key_column("id"),
    Column("number", Integer, nullable=False),
    text_column("subject"),
    text_column("by"),
    Column("at", UtcTime, nullable=False),
    text_column("state"),
    Column("certificate", String),
    Column("signature", CanonicalJson),
    Column("owner", String),
    Column("lease_until", UtcTime),
    UniqueConstraint("tenant", "subject"),
)

#: Secrets in hex, one a name: what pseudonyms and salts are made with.
secrets = Table("secrets", metadata, tenant_column(), key_column("name"), text_column("value"))
#: The tenant's data key, wrapped by the workspace's.
data_keys = Table(
    "data_keys",
    metadata,
    tenant_column(),
    *map(text_column, ("scope", "wrapped", "fingerprint")),
    Column("at", UtcTime, nullable=False),
)

# Above tenants.

#: Gateways that serve, when each last said so, and up to which move of any alias it answers as the record says.
gateways = Table(
    "gateways",
    metadata,
    key_column("id"),
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
