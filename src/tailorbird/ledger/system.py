"""The system repositories: all that stands above tenants. Nothing else in this room sees more than one tenant.

- ``Tenants``: the tenants, which tenant a key or a session leads to, and whether any alias moved (this file)
- ``Queue``: the runs that wait for a worker (this file)
- ``Events`` with ``tenant=None``: the event log of everybody (``eventlog.py``)

In: tenants, ids of keys and sessions. Out: tenants, keys, sessions, runs, a counter. Must not know: what lies inside a tenant.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, exists, select

from tailorbird.domain.errors import Conflict
from tailorbird.domain.identity import ApiKey, Session, Tenant
from tailorbird.domain.run import Run, RunState, StepState
from tailorbird.ledger.eventlog import Events
from tailorbird.ledger.rows import insert_new, select_fields, value_of
from tailorbird.ledger.runs import is_held
from tailorbird.ledger.tables import alias_moves, api_keys, runs, sessions, steps, tenants
from tailorbird.ports.clock import Clock
from tailorbird.ports.events import AuditLog
from tailorbird.ports.identity import TenantDirectory
from tailorbird.ports.runs import WorkQueue


class Tenants:
    """Implements ``TenantDirectory``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, tenant: Tenant) -> None:
        """Adds a tenant. Raises Conflict when the name is taken."""
        if not insert_new(self._connection, tenants, tenant.model_dump()):
            raise Conflict(f"there is a tenant {tenant.name} already", "choose another name", code="tenant_taken")

    def all(self) -> tuple[Tenant, ...]:
        """All tenants, by name."""
        rows = self._connection.execute(select_fields(tenants, Tenant).order_by(tenants.c.name))
        return tuple(value_of(Tenant, row) for row in rows)

    def key(self, key_id: str) -> ApiKey | None:
        """The key with this id, in whichever tenant."""
        row = self._connection.execute(select_fields(api_keys, ApiKey).where(api_keys.c.id == key_id)).one_or_none()
        return value_of(ApiKey, row) if row else None

    def session(self, session_id: str) -> Session | None:
        """The session with this id, in whichever tenant."""
        row = self._connection.execute(select_fields(sessions, Session).where(sessions.c.id == session_id)).one_or_none()
        return value_of(Session, row) if row else None

    def aliases_moved(self) -> int:
        """How often any alias was moved."""
        return int(self._connection.execute(select(alias_moves.c.count)).scalar_one())


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
        return tuple(value_of(Run, row) for row in self._connection.execute(oldest))


@dataclass
class System:
    """Implements ``SystemWork``."""

    tenants: TenantDirectory
    events: AuditLog
    queue: WorkQueue


def system_over(connection: Connection, clock: Clock) -> System:
    """The system repositories inside one transaction."""
    return System(tenants=Tenants(connection), events=Events(connection, None), queue=Queue(connection, clock))
