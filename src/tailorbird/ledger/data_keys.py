"""Repository of a tenant's wrapped data key."""

from __future__ import annotations

from sqlalchemy import Connection, update

from tailorbird.domain.data_key import WrappedKey
from tailorbird.domain.errors import NotFound
from tailorbird.ledger.row_mapping import insert_new, own, select_fields, value_of
from tailorbird.ledger.tables import data_keys


class DataKeys:
    """Implements ``DataKeyRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def get(self) -> WrappedKey | None:
        """The key; None before it was made."""
        asked = select_fields(data_keys, WrappedKey).where(data_keys.c.tenant == self._tenant)
        row = self._connection.execute(asked).one_or_none()
        return value_of(WrappedKey, row) if row else None

    def add(self, made: WrappedKey) -> WrappedKey:
        """Keeps a key unless there is one; of two who make it at once, both get the one that was written first."""
        own(self._tenant, made.tenant)
        insert_new(self._connection, data_keys, made.model_dump())
        return self.get() or made

    def rewrap(self, scope: str, wrapped: str) -> None:
        """Replaces the wrapped form. Raises NotFound."""
        here = (data_keys.c.tenant == self._tenant, data_keys.c.scope == scope)
        if not self._connection.execute(update(data_keys).where(*here).values(wrapped=wrapped)).rowcount:
            raise no_data_key(self._tenant)


def no_data_key(tenant: str) -> NotFound:
    """There is no such key."""
    return NotFound(f"tenant {tenant} has no such data key", "it was removed, or never had one", code="data_key_missing")
