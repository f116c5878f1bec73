"""Tables of the event log: entries, tree, head, anchored rows, checkpoints. They stand above tenants."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text

from tailorbird.ledger.columns import key_column, metadata, said_column, text_column
from tailorbird.ledger.row_mapping import CanonicalJson, UtcTime


def _node_table(name: str) -> Table:
    """Hashes of the nodes of a tree, by level and number."""
    return Table(
        name,
        metadata,
        Column("level", Integer, primary_key=True, autoincrement=False),
        Column("number", Integer, primary_key=True, autoincrement=False),
        text_column("hash"),
    )


#: The Merkle log. ``body`` is the canonical JSON of the event, byte for byte what ``leaf_hash`` covers.
log_entries = Table(
    "log_entries",
    metadata,
    Column("index", Integer, primary_key=True, autoincrement=False),
    text_column("leaf_hash"),
    text_column("tenant"),
    text_column("subject"),
    Column("body", Text, nullable=False),
    Index(None, "subject", "index"),
    Index(None, "tenant", "index"),
)

#: Hashes (in hex) of complete subtrees of the log, of 2**level leaves each, at levels 4, 8, 12 and so on (``event_log.py``).
log_nodes = _node_table("log_nodes")

#: One row: the log's size, its right edge (hashes in hex, largest subtree first), the root over the anchored rows, and
#: the signature over the three (``crypto``'s ``LogHead``).
log_frontier = Table(
    "log_frontier",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("edge", CanonicalJson, nullable=False),
    said_column("state"),
    said_column("seal"),
)

#: What the log says that each row holds, for look-ups: ``scope`` is the row's tenant, ``bucket`` and ``place`` are its place in the state
#: tree (``crypto/anchored_rows.py``), hashes are in hex.
anchored_rows = Table(
    "anchored_rows",
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    key_column("place"),
    text_column("scope"),
    text_column("name"),
    text_column("digest"),
    Index(None, "scope"),
)

#: The hashes of the state tree that are not empty.
anchor_nodes = _node_table("anchor_nodes")

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    text_column("origin"),
    Column("size", Integer, nullable=False),
    text_column("root"),
    Column("note", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)
