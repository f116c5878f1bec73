"""Tables of the record, and the column types that give back exactly what was stored. ``database.py`` creates them.

Whatever belongs to a tenant has the tenant first in its primary key, and points to other rows of the same tenant only: a row of another
tenant cannot even be referred to. Columns that have the name of a domain value's field hold that field. ``number`` counts what a tenant
added, from 1: the order of rows, where times may tie.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
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
    text,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeDecorator

from tailorbird.crypto.canonical_json import canonical_json, plain_json
from tailorbird.domain.errors import Corrupt, InvalidInput

#: One spelling for the names of constraints.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def unreadable(what: str) -> Corrupt:
    """The error for a row or a field that no longer is what it was written as."""
    return Corrupt(
        f"a stored {what} cannot be read: it was changed outside tailorbird, or written by a newer version",
        "check the log with: tailorbird audit verify; use the version that wrote it, or restore a backup",
        code="record_corrupt",
    )


class UtcTime(TypeDecorator[datetime]):
    """A moment, to the microsecond. Stored in UTC and read as UTC; a time without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone to UTC; SQLite, which has no zones, gets it without."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidInput("a time without a zone cannot be recorded", "give the time in UTC")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As it was stored. Raises Corrupt for what is no moment, at which SQLite's own reading ends with an error of Python's."""
        read = super().result_processor(dialect, coltype)

        def checked(value: Any) -> Any:
            try:
                return read(value) if read else value
            except (TypeError, ValueError):
                raise unreadable("moment") from None

        return checked

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ReadableTime(UtcTime):
    """As ``UtcTime``; None for what is no moment."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As it was stored, or None."""
        read = super().result_processor(dialect, coltype)

        def readable(value: Any) -> Any:
            try:
                return read(value)
            except Corrupt:
                return None

        return readable


class CanonicalJson(TypeDecorator[Any]):
    """Lists and mappings of JSON types, as canonical JSON text; what is read back gives the same digest."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        """To text; a value or a set as JSON has it."""
        return None if value is None else canonical_json(plain_json(value)).decode()

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        """From text. Raises Corrupt."""
        try:
            return None if value is None else json.loads(value)
        except ValueError:
            raise unreadable("list or mapping") from None


_TYPES: dict[str, Any] = {
    "": Text,
    "int": Integer,
    "big": BigInteger,
    "real": Float,
    "flag": Boolean,
    "time": UtcTime,
    "json": CanonicalJson,
}


def _table(name: str, columns: str, *rules: SchemaItem, of_tenant: bool = True) -> Table:
    """A table with ``columns``: ``*`` before a name makes it part of the key, ``:`` behind it gives a type other than text, ``?`` at the
    end lets it be empty."""
    made: list[Column[Any]] = []
    if of_tenant:
        made.append(Column("tenant", String, ForeignKey("tenants.name"), primary_key=True))
    for column in columns.split():
        title, _, kind = column.strip("*?").partition(":")
        made.append(Column(title, _TYPES[kind], primary_key=column[0] == "*", nullable=column[-1] == "?", autoincrement=False))
    return Table(name, metadata, *made, *rules)


def _points_to(column: str, table: str, key: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant", column], [f"{table}.tenant", f"{table}.{key}"])


def _partial(name: str, condition: str, *columns: str) -> Index:
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


tenants = _table("tenants", "*name created_at:time suspended_at:time? limits:json policy:json places:json endpoints:json", of_tenant=False)
identities = _table(
    "identities",
    "*name roles:json public_key created_at:time disabled_at:time? former_keys:json admitted_by:json pending:flag disabled_by?",
)
api_keys = _table(
    "api_keys",
    "*id name secret_sha256 created_at:time expires_at:time? revoked_at:time? scopes:json groups:json limits:json",
    UniqueConstraint("id"),
)
sessions = _table("sessions", "*id identity secret_sha256 created_at:time expires_at:time ended_at:time?", UniqueConstraint("id"))
records = _table("records", "*kind *digest number:int body", Index(None, "tenant", "kind", "number"))
runs = _table(
    "runs",
    "*id number:int objective_name objective fingerprint folder created_by created_at:time state source inputs?",
    UniqueConstraint("tenant", "fingerprint"),
    Index(None, "tenant", "number"),
    Index(None, "state", "created_at"),
    Index(None, "tenant", "objective_name", "number"),
    Index(None, "tenant", "state", "number"),
)
steps = _table(
    "steps",
    "*run *name position:int state owner? lease_until:time? attempts:int result? error? message? hint? seconds:real progress:json? "
    "leased_at:time? deaths:int reached:int paid:real",
    _points_to("run", "runs", "id"),
    UniqueConstraint("tenant", "run", "position"),
)
releases = _table("releases", "*digest number:int state content dossier signature:json", Index(None, "tenant", "number"))
approvals = _table(
    "approvals", "*release *identity number:int dossier role decision reason signature:json", _points_to("release", "releases", "digest")
)
judgements = _table(
    "judgements", "*release *reviewer *number:int mark candidate_side reason at:time", _points_to("release", "releases", "digest")
)
looks = _table("looks", "*objective_name *snapshot *candidate *question number:int", UniqueConstraint("tenant", "objective_name", "number"))
splits = _table("splits", "*objective_name *row_id split row_group")

#: Every version an alias ever had; the one with the highest version is current. ``move``: the count of all aliases' moves that it made.
aliases = _table(
    "aliases",
    "*name *stage *version:int targets:json previous:json moved_at:time moved_by salt mirror? move:int",
    Index(None, "move"),
)
requests = _table(
    "requests",
    "*id key alias release? arm route status:int outcome error? prediction? prompt_tokens:int completion_tokens:int latency_ms:real "
    "at:time characters:int sketch confidence:real? cost:real version:int unit malformed:flag referred:flag out_of_scope:flag "
    "agrees:flag? endpoint paid:real",
    Index(None, "tenant", "at", "id"),
    Index(None, "tenant", "release", "at"),
    Index(None, "tenant", "alias", "version"),
    _partial("requests_paid", "endpoint <> ''", "tenant", "endpoint", "at"),
)

#: What requests have used up, written in the transaction that writes their rows: of the tenant (``key`` is empty), and of each API key.
#: ``gateway`` is one process's life.
usage = _table("usage", "*key *gateway *period *start:time requests:big input_tokens:big output_tokens:big money:real")

#: Artifacts that a tenant's work has stored, each once. ``name`` is the digest's hexadecimal part: it counts an artifact, and keeps none.
stored = _table("stored", "*name bytes:big")

#: What feedback is a label: as in the index, which serves only who asks so.
ONLY_LABELS = "kind = 'label'"
feedback = _table(
    "feedback",
    "*request *kind *source value score:real? at:time",
    _points_to("request", "requests", "id"),
    Index(None, "tenant", "at"),
    _partial("feedback_labels", ONLY_LABELS, "tenant", "request"),
)
reviews = _table(
    "reviews",
    "*request alias reason state queued_at:time settled_at:time? settled_by? label?",
    _points_to("request", "requests", "id"),
    Index(None, "tenant", "state", "queued_at"),
)
#: Words of requests, redacted; only of tenants whose policy says so, and only for a while.
contents = _table(
    "contents", "*request text answer at:time expires_at:time", _points_to("request", "requests", "id"), Index(None, "tenant", "expires_at")
)
#: ``body`` is the canonical JSON of the rollout; the columns beside it are those by which rollouts are found.
rollouts = _table("rollouts", "*id number:int alias state revision:int body", Index(None, "tenant", "number"))
signals = _table(
    "signals",
    "*number:int objective release name value:real bound:real? p_value:real? n:int severity text at:time",
    Index(None, "tenant", "objective", "number"),
)
decisions = _table("decisions", "*number:int objective row action label by at:time", Index(None, "tenant", "objective", "row"))
#: ``owner`` and ``lease_until`` say who carries an erasure out.
erasures = _table(
    "erasures",
    "*id number:int subject by at:time state certificate? signature:json? owner? lease_until:time?",
    UniqueConstraint("tenant", "subject"),
)
#: Secrets in hex, one a name: what pseudonyms and salts are made with.
secrets = _table("secrets", "*name value")
#: The tenant's data key, wrapped by the workspace's.
data_keys = _table("data_keys", "scope wrapped fingerprint at:time")

# Above tenants.

#: Gateways that serve, when each last said so, and up to which move of any alias it answers as the record says.
gateways = _table("gateways", "*id moves:int at:time", of_tenant=False)
#: One row: how often any alias was moved. A counter in a row, so that nobody can see move 8 before move 7 (as with a database sequence).
alias_moves = _table("alias_moves", "*id:int count:int", of_tenant=False)

#: The Merkle log. ``body`` is the canonical JSON of the event, byte for byte what ``leaf_hash`` covers.
log_entries = _table(
    "log_entries",
    "*index:int leaf_hash tenant subject body",
    Index(None, "subject", "index"),
    Index(None, "tenant", "index"),
    of_tenant=False,
)
#: Hashes (in hex) of complete subtrees of the log, of 2**level leaves each, at levels 4, 8, 12 and so on (``event_log.py``).
log_nodes = _table("log_nodes", "*level:int *number:int hash", of_tenant=False)
#: One row: the log's size, its right edge (hashes in hex, largest subtree first), the root over the anchored rows, and
#: the signature over the three (``crypto``'s ``LogHead``).
log_frontier = _table("log_frontier", "*id:int size:int edge:json state seal", of_tenant=False)
#: What the log says that each row holds, for look-ups: ``scope`` is the row's tenant, ``bucket`` and ``place`` are its place in the state
#: tree (``crypto/anchored_rows.py``), hashes are in hex.
anchored_rows = _table("anchored_rows", "*bucket:int *place scope name digest", Index(None, "scope"), of_tenant=False)
#: The hashes of the state tree that are not empty.
anchor_nodes = _table("anchor_nodes", "*level:int *number:int hash", of_tenant=False)
checkpoints = _table("checkpoints", "*number:int origin size:int root note at:time", of_tenant=False)
