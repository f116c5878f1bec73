"""System repositories: everything above tenants. Nothing else in this package sees more than one tenant."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, select, update

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import Conflict, Corrupt, NotFound
from tailorbird.domain.identity import ApiKey, Session, Tenant
from tailorbird.domain.label_review import ModelReview
from tailorbird.domain.run import Run, RunState, StepState
from tailorbird.ledger.anchors import AnchorBook
from tailorbird.ledger.deployment import AllAliases
from tailorbird.ledger.event_log import Events
from tailorbird.ledger.identities import stored_session
from tailorbird.ledger.label_reviews import is_free
from tailorbird.ledger.quota import AllUsage, Gateways
from tailorbird.ledger.records import References
from tailorbird.ledger.row_mapping import insert_new, select_fields, value_from, value_of
from tailorbird.ledger.runs import is_held
from tailorbird.ledger.tables import alias_moves, api_keys, log_entries, metadata, model_reviews, runs, steps, tenants, time_floor
from tailorbird.ports.clock import Clock, TimeFloor
from tailorbird.ports.deployment import AliasBook
from tailorbird.ports.events import AuditLog, RowAnchorBook
from tailorbird.ports.identity import TenantDirectory
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.ports.quota import GatewayDirectory, UsageBook
from tailorbird.ports.records import ReferenceBook
from tailorbird.ports.runs import WorkQueue

_log = logging.getLogger("tailorbird.ledger")

T = TypeVar("T")

LARGEST_STEP = timedelta(days=1)
_ONLY = 1


class StoredTimeFloor:
    """Implements ``ports.clock.TimeFloor``.

    Whoever raises the floor to a wrong time in the future would end keys before their time, so one step is at most ``LARGEST_STEP``: a
    record that nobody used for a year catches up in a few hundred steps, and a clock that was wrong for minutes does little harm.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def at(self) -> datetime | None:
        """The floor; None before it was first raised."""
        return self._connection.scalar(select(time_floor.c.at).where(time_floor.c.id == _ONLY))

    def raise_to(self, now: datetime) -> None:
        """Raises the floor to ``now``, or by the largest step towards it; does nothing when it is there already."""
        known = self.at()
        if known is None:
            insert_new(self._connection, time_floor, {"id": _ONLY, "at": now})
            return
        wanted = min(now, known + LARGEST_STEP)
        self._connection.execute(update(time_floor).where(time_floor.c.id == _ONLY, time_floor.c.at < wanted).values(at=wanted))


class Tenants:
    """Implements ``TenantDirectory``."""

    def __init__(self, connection: Connection, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._changes = changes or RowChanges()

    def add(self, tenant: Tenant) -> None:
        """Adds a tenant. Raises Conflict when the name is taken."""
        if not insert_new(self._connection, tenants, tenant.model_dump(mode="python") | _plain(tenant)):
            raise Conflict(f"there is a tenant {tenant.name} already", "choose another name", code="tenant_taken")
        self._changes.note(None, self.get(tenant.name))

    def all(self) -> dict[str, Tenant | None]:
        """All tenants by name, in order; None stands for one whose row cannot be read."""
        try:
            rows = self._connection.execute(select_fields(tenants, Tenant).order_by(tenants.c.name))
            return {tenant.name: tenant for tenant in (value_of(Tenant, row) for row in rows)}
        except Corrupt:
            names = self._connection.scalars(select(tenants.c.name).order_by(tenants.c.name)).all()
            return {name: self._readable(name) for name in names}

    def _readable(self, name: str) -> Tenant | None:
        try:
            return self.get(name)
        except Corrupt:
            return None

    def get(self, name: str) -> Tenant:
        """The tenant. Raises NotFound."""
        row = self._connection.execute(select_fields(tenants, Tenant).where(tenants.c.name == name)).one_or_none()
        if row is None:
            raise no_tenant(name)
        return value_of(Tenant, row)

    def replace(self, tenant: Tenant) -> None:
        """Writes a changed tenant in place of the one of that name. Raises NotFound."""
        before = self.get(tenant.name)
        self._connection.execute(update(tenants).where(tenants.c.name == tenant.name).values(tenant.model_dump() | _plain(tenant)))
        self._changes.note(before, self.get(tenant.name))

    def remove(self, name: str) -> dict[str, int]:
        """Deletes a tenant with every row that is its, in every table but the event log. Returns rows a table. Raises NotFound."""
        self.get(name)
        owned = [table for table in reversed(metadata.sorted_tables) if "tenant" in table.c and table is not log_entries]
        rows = {table.name: self._connection.execute(delete(table).where(table.c.tenant == name)).rowcount for table in owned}
        self._connection.execute(delete(tenants).where(tenants.c.name == name))
        self._changes.note_none_left(name)
        self._connection.execute(update(alias_moves).values(count=alias_moves.c.count + 1))
        return rows

    def key(self, key_id: str) -> ApiKey | None:
        """The key with this id, in whichever tenant."""
        row = self._connection.execute(select_fields(api_keys, ApiKey).where(api_keys.c.id == key_id)).one_or_none()
        return value_of(ApiKey, row) if row else None

    def session(self, session_id: str) -> Session | None:
        """The session with this id, in whichever tenant."""
        return stored_session(self._connection, session_id)

    def aliases_moved(self) -> int:
        """Total number of alias moves."""
        return int(self._connection.execute(select(alias_moves.c.count)).scalar_one())


def no_tenant(name: str) -> NotFound:
    """There is no such tenant."""
    return NotFound(f"there is no tenant {name}", "make it with: tailorbird tenant add", code="tenant_missing")


def _plain(tenant: Tenant) -> dict[str, Any]:
    lists = {name: [plain_json(each) for each in getattr(tenant, name)] for name in ("places", "endpoints")}
    return {"limits": plain_json(tenant.limits), "policy": plain_json(tenant.policy)} | lists


class Queue:
    """Implements ``WorkQueue``."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def waiting(self, limit: int = 20) -> tuple[Run, ...]:
        """Active and planning runs of any tenant none of whose steps is held under a lease that has not expired, oldest first.

        A run whose steps are all done, or that has none yet, waits too: for whoever finds out what comes next.
        """
        held = exists().where(
            steps.c.tenant == runs.c.tenant,
            steps.c.run == runs.c.id,
            steps.c.state == StepState.LEASED,
            is_held(self._clock.now()),
        )
        open_runs = select_fields(runs, Run).where(runs.c.state.in_((RunState.ACTIVE, RunState.PLANNING)), ~held)
        oldest = open_runs.order_by(runs.c.created_at, runs.c.tenant, runs.c.number).limit(limit)
        return tuple(self._readable(oldest, runs.c.tenant, lambda row: value_of(Run, row)))

    def judging(self, limit: int = 20) -> tuple[tuple[str, ModelReview], ...]:
        """Reviews by judge models of any tenant that wait and that nobody holds, oldest first, each with its tenant."""
        fields = select_fields(model_reviews, ModelReview).where(is_free(self._clock.now()))
        oldest = fields.order_by(model_reviews.c.asked_at, model_reviews.c.tenant, model_reviews.c.number).limit(limit)

        def review(row: Row[Any]) -> tuple[str, ModelReview]:
            return row.tenant, value_from(ModelReview, {k: v for k, v in row._mapping.items() if k != "tenant"})

        return tuple(self._readable(oldest.add_columns(model_reviews.c.tenant), model_reviews.c.tenant, review))

    def _readable(self, asked: Select[Any], tenant: ColumnElement[str], made: Callable[[Row[Any]], T]) -> list[T]:
        """What the rows make. Where one cannot be read, those of its tenant are left out."""
        try:
            return [made(row) for row in self._connection.execute(asked)]
        except Corrupt:
            found: list[T] = []
            for name in self._connection.scalars(select(tenants.c.name)).all():
                try:
                    found += [made(row) for row in self._connection.execute(asked.where(tenant == name))]
                except Corrupt:
                    _log.error("work of %s that waits cannot be read: run tailorbird audit verify", name)
            return found


@dataclass
class System:
    """Implements ``SystemWork``."""

    tenants: TenantDirectory
    aliases: AliasBook
    events: AuditLog
    anchors: RowAnchorBook
    queue: WorkQueue
    usage: UsageBook
    gateways: GatewayDirectory
    references: ReferenceBook
    floor: TimeFloor
    of: Callable[[str], UnitOfWork]


def system_over(connection: Connection, clock: Clock, changes: RowChanges, events: Events, of: Callable[[str], UnitOfWork]) -> System:
    """The system repositories inside one transaction."""
    return System(
        tenants=Tenants(connection, changes),
        aliases=AllAliases(connection),
        events=events,
        anchors=AnchorBook(events, connection),
        queue=Queue(connection, clock),
        usage=AllUsage(connection),
        gateways=Gateways(connection),
        references=References(connection),
        floor=StoredTimeFloor(connection),
        of=of,
    )
