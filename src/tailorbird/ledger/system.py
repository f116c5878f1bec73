"""The system repositories: all that stands above tenants. Nothing else in this room sees more than one tenant.

- ``Tenants``: the tenants, which tenant a key leads to, and whether any alias moved (this file)
- ``Events`` with ``tenant=None``: the event log of everybody (``eventlog.py``)

In: tenants, key ids. Out: tenants, keys, a counter. Must not know: what lies inside a tenant.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from tailorbird.domain.errors import Conflict
from tailorbird.domain.identity import ApiKey, Tenant
from tailorbird.ledger.eventlog import Events
from tailorbird.ledger.rows import insert_new, select_fields, value_of
from tailorbird.ledger.tables import alias_moves, api_keys, tenants
from tailorbird.ports.events import EventLog
from tailorbird.ports.identity import TenantDirectory


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

    def aliases_moved(self) -> int:
        """How often any alias was moved."""
        return int(self._connection.execute(select(alias_moves.c.count)).scalar_one())


@dataclass
class System:
    """Implements ``SystemWork``."""

    tenants: TenantDirectory
    events: EventLog


def system_over(connection: Connection) -> System:
    """The system repositories inside one transaction."""
    return System(tenants=Tenants(connection), events=Events(connection, None))
