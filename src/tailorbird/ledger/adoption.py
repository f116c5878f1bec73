"""Adoption of rows that were written before the log anchored any: they are taken as they are found, and the log says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, select

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.domain.event import AnchoredRow, Event
from tailorbird.domain.identity import Identity
from tailorbird.ledger.anchors import found_rows
from tailorbird.ledger.database import Database
from tailorbird.ledger.event_log import Events
from tailorbird.ledger.identities import Identities
from tailorbird.ledger.tables import log_frontier, tenants
from tailorbird.ports.events import LogSealer

#: So many rows an event anchors at most.
_ROWS_AN_EVENT = 500


def anchor_what_stands(database: Database, sealer: LogSealer | None, now: datetime) -> None:
    """Anchors the rows of a database in which nothing is anchored yet, tenant by tenant; does nothing in any other.

    Raises Corrupt where its log was sealed before: then somebody has taken the anchors away.
    """
    with database.reading() as connection:
        if connection.scalar(select(log_frontier.c.state)):
            return
    with database.writing() as connection:
        changes = RowChanges()
        events = Events(connection, None, changes, sealer)
        if events.begin_anchoring():
            for tenant in connection.scalars(select(tenants.c.name).order_by(tenants.c.name)).all():
                _anchor(connection, tenant, changes, events, now)
    events.committed()


def _anchor(connection: Connection, tenant: str, changes: RowChanges, events: Events, now: datetime) -> None:
    people = Identities(connection, tenant).all()
    if people:
        events.append([_found(person, now) for person in people])
    rows: Iterator[AnchoredRow] = found_rows(connection, tenant)
    while some := list(islice(rows, _ROWS_AN_EVENT)):
        for row in some:
            changes.note_found(row)
        facts = {"found": len(some)}
        events.append([Event(kind="tenant.anchored", tenant=tenant, actor="migration", subject=tenant, at=now, data={**facts})])


def _found(person: Identity, now: datetime) -> Event:
    """Roles and keys of an identity that nobody signed for: later signatures follow from these."""
    facts: dict[str, str | int | float | bool | None] = {
        "roles": ",".join(sorted(person.roles)),
        "public_key": person.public_key,
        "former_keys": ",".join(person.former_keys),
        "disabled": person.disabled_at is not None,
    }
    return Event(kind="identity.found", tenant=person.tenant, actor="migration", subject=person.name, at=now, data=facts)
