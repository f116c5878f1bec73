"""Identities of a tenant; and, above tenants, the tenants themselves and the keys that lead to them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tailorbird.domain.identity import ApiKey, Identity, Tenant


class IdentityRepository(Protocol):
    """One tenant's identities."""

    def add(self, identity: Identity) -> None:
        """Adds an identity. Raises Conflict when the name is taken."""
        ...

    def get(self, name: str) -> Identity:
        """The identity. Raises NotFound."""
        ...

    def all(self) -> tuple[Identity, ...]:
        """All identities, by name."""
        ...


class ApiKeyRepository(Protocol):
    """One tenant's API keys."""

    def add(self, key: ApiKey) -> None:
        """Adds a key."""
        ...

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first, revoked ones too."""
        ...

    def revoke(self, key: str, at: datetime) -> ApiKey:
        """Revokes the key with this id. Raises NotFound."""
        ...


class TenantDirectory(Protocol):
    """System repository: the tenants, and which key belongs to which."""

    def add(self, tenant: Tenant) -> None:
        """Adds a tenant. Raises Conflict when the name is taken."""
        ...

    def all(self) -> tuple[Tenant, ...]:
        """All tenants, by name."""
        ...

    def key(self, key_id: str) -> ApiKey | None:
        """The key with this id, in whichever tenant."""
        ...

    def aliases_moved(self) -> int:
        """A number that grows whenever any alias moves: what a gateway watches."""
        ...
