"""Tenants, the keys and sessions that lead to them, and the floor under the clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from support.doubles.ledger.deployment import ALIAS_MOVES, MOVES, NO_MOVE
from support.doubles.ledger.identities import API_KEYS, SESSIONS
from support.doubles.ledger.tables import Repository, Table, stored, utc
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.identity import ApiKey, Session, Tenant

TENANTS: Table[str, Tenant] = Table("tenants")
#: One row, once there is any.
TIME_FLOOR: Table[str, datetime] = Table("time_floor")

_ONLY = "at"


class MemoryTenants(Repository):
    """Implements ``TenantDirectory``."""

    def add(self, tenant: Tenant) -> None:
        """Adds a tenant. Raises Conflict when the name is taken."""
        rows = self._change(TENANTS)
        if tenant.name in rows:
            raise Conflict(f"there is a tenant {tenant.name} already", "choose another name", code="tenant_taken")
        rows[tenant.name] = stored(tenant)
        self._note(None, rows[tenant.name])

    def all(self) -> dict[str, Tenant | None]:
        """All tenants by name, in order."""
        rows = self._rows(TENANTS)
        return {name: rows[name] for name in sorted(rows)}

    def get(self, name: str) -> Tenant:
        """The tenant. Raises NotFound."""
        tenant = self._rows(TENANTS).get(name)
        if tenant is None:
            raise NotFound(f"there is no tenant {name}", "make it with: tailorbird tenant add", code="tenant_missing")
        return tenant

    def replace(self, tenant: Tenant) -> None:
        """Writes a changed tenant in place of the one of that name. Raises NotFound."""
        rows = self._change(TENANTS)
        before = self.get(tenant.name)
        rows[tenant.name] = stored(tenant)
        self._note(before, rows[tenant.name])

    def remove(self, name: str) -> dict[str, int]:
        """Deletes a tenant with every row that is its; the event log keeps what happened. Returns rows a table. Raises NotFound."""
        self.get(name)
        gone = {table: len(rows) for table, rows in self._transaction.tables(name).items()}
        for table in gone:
            self._transaction.change(Table(table), name).clear()
        del self._change(TENANTS)[name]
        self._transaction.unanchored.note_none_left(name)
        moves = self._change(ALIAS_MOVES)
        moves[MOVES] = moves[NO_MOVE] = self.aliases_moved() + 1
        return gone

    def key(self, key_id: str) -> ApiKey | None:
        """The key with this id, in whichever tenant."""
        return next((rows[key_id] for _, rows in self._transaction.every(API_KEYS) if key_id in rows), None)

    def session(self, session_id: str) -> Session | None:
        """The session with this id, in whichever tenant."""
        return next((rows[session_id] for _, rows in self._transaction.every(SESSIONS) if session_id in rows), None)

    def aliases_moved(self) -> int:
        """How often any alias was moved."""
        return self._rows(ALIAS_MOVES).get(MOVES, 0)


class MemoryTimeFloor(Repository):
    """Implements ``TimeFloor``."""

    def at(self) -> datetime | None:
        """The floor; None before it was first raised."""
        return self._rows(TIME_FLOOR).get(_ONLY)

    def raise_to(self, now: datetime) -> None:
        """Raises the floor to ``now``, or by a day towards it; does nothing when it is there already."""
        rows, known = self._change(TIME_FLOOR), self.at()
        rows[_ONLY] = utc(now) if known is None else max(known, min(utc(now), known + timedelta(days=1)))
