"""A tenant's wrapped data key."""

from __future__ import annotations

from support.doubles.ledger.tables import Repository, Table, stored
from tailorbird.domain.data_key import WrappedKey
from tailorbird.domain.errors import NotFound

DATA_KEYS: Table[str, WrappedKey] = Table("data_keys")
_ONLY = ""


class MemoryDataKeys(Repository):
    """Implements ``DataKeyRepository``."""

    def get(self) -> WrappedKey | None:
        """The key; None before it was made."""
        return self._rows(DATA_KEYS).get(_ONLY)

    def add(self, made: WrappedKey) -> WrappedKey:
        """Keeps a key unless there is one; returns the one that counts."""
        self._own(made.tenant)
        return self._rows(DATA_KEYS).get(_ONLY) or self._change(DATA_KEYS).setdefault(_ONLY, stored(made))

    def rewrap(self, scope: str, wrapped: str) -> None:
        """Replaces the wrapped form. Raises NotFound."""
        known = self.get()
        if known is None or known.scope != scope:
            raise NotFound(f"tenant {self._tenant} has no such data key", "it was removed, or never had one", code="data_key_missing")
        self._change(DATA_KEYS)[_ONLY] = known.model_copy(update={"wrapped": wrapped})
