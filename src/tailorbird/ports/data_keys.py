"""Data keys of tenants, wrapped.

In and out: wrapped keys. Must not know: what unwraps them, what they encrypt.
"""

from __future__ import annotations

from typing import Protocol

from tailorbird.domain.data_key import WrappedKey


class DataKeyRepository(Protocol):
    """One tenant's data key."""

    def get(self) -> WrappedKey | None:
        """The key; None before it was made."""
        ...

    def add(self, made: WrappedKey) -> WrappedKey:
        """Keeps a key unless there is one; returns the one that counts."""
        ...

    def rewrap(self, scope: str, wrapped: str) -> None:
        """Replaces the wrapped form of the key of ``scope``. Raises NotFound."""
        ...
