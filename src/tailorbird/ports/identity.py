"""Identities of a tenant; and, above tenants, the tenants themselves and the keys that lead to them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tailorbird.domain.identity import ApiKey, Identity, Session, Tenant
from tailorbird.domain.quota import KeyLimits


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

    def replace(self, identity: Identity) -> None:
        """Writes a changed identity in place of the one of that name. Raises NotFound."""
        ...


class ApiKeyRepository(Protocol):
    """One tenant's API keys."""

    def add(self, key: ApiKey) -> None:
        """Adds a key. Raises Conflict when its id is taken, in any tenant."""
        ...

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first, revoked ones too."""
        ...

    def expire(self, key: str, at: datetime) -> ApiKey:
        """Makes the key with this id end at ``at``, unless it ends earlier. Raises NotFound."""
        ...

    def limit(self, key: str, limits: KeyLimits) -> ApiKey:
        """Sets the limits of the key with this id. Raises NotFound."""
        ...

    def revoke(self, key: str, at: datetime) -> ApiKey:
        """Revokes the key with this id. Raises NotFound."""
        ...


class SessionRepository(Protocol):
    """One tenant's sessions at the control API and the console."""

    def add(self, session: Session) -> None:
        """Adds a session. Raises Conflict when its id (the login's nonce) was used. Sessions that ended a day ago are cleared away."""
        ...

    def end(self, session: str, at: datetime) -> None:
        """Ends a session; one that is unknown or has ended is left as it is."""
        ...

    def end_all(self, identity: str, at: datetime) -> None:
        """Ends every session of an identity."""
        ...


class TenantDirectory(Protocol):
    """System repository: the tenants, and which key belongs to which."""

    def add(self, tenant: Tenant) -> None:
        """Adds a tenant. Raises Conflict when the name is taken."""
        ...

    def all(self) -> dict[str, Tenant | None]:
        """All tenants by name, in order; None stands for one whose row cannot be read."""
        ...

    def get(self, name: str) -> Tenant:
        """The tenant. Raises NotFound."""
        ...

    def replace(self, tenant: Tenant) -> None:
        """Writes a changed tenant in place of the one of that name. Raises NotFound."""
        ...

    def remove(self, name: str) -> dict[str, int]:
        """Deletes a tenant with every row that is its, in every table but the event log, which keeps what happened. Returns rows a table.

        Raises NotFound.
        """
        ...

    def key(self, key_id: str) -> ApiKey | None:
        """The key with this id, in whichever tenant."""
        ...

    def session(self, session_id: str) -> Session | None:
        """The session with this id, in whichever tenant."""
        ...

    def aliases_moved(self) -> int:
        """A number that grows whenever any alias moves: what a gateway watches."""
        ...
