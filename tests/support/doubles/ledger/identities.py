"""Identities, API keys and sessions of a tenant."""

from __future__ import annotations

from datetime import datetime, timedelta

from support.doubles.ledger.tables import Repository, Table, Transaction, stored, utc
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.identity import ApiKey, Identity, Session
from tailorbird.domain.quota import KeyLimits
from tailorbird.ports.clock import Clock

IDENTITIES: Table[str, Identity] = Table("identities")
API_KEYS: Table[str, ApiKey] = Table("api_keys")
SESSIONS: Table[str, Session] = Table("sessions")

#: An ended session stays this long, so that its nonce is not taken twice.
_KEPT = timedelta(days=1)


class MemoryIdentities(Repository):
    """Implements ``IdentityRepository``."""

    def add(self, identity: Identity) -> None:
        """Adds an identity. Raises Conflict when the name is taken."""
        self._own(identity.tenant)
        rows = self._change(IDENTITIES)
        if identity.name in rows:
            raise Conflict(f"{self._tenant} already has an identity {identity.name}", "choose another name", code="identity_taken")
        rows[identity.name] = stored(identity)
        self._note(None, rows[identity.name])

    def get(self, name: str) -> Identity:
        """The identity. Raises NotFound."""
        identity = self._rows(IDENTITIES).get(name)
        if identity is None:
            raise self._missing(name)
        return identity

    def all(self) -> tuple[Identity, ...]:
        """All identities, by name."""
        rows = self._rows(IDENTITIES)
        return tuple(rows[name] for name in sorted(rows))

    def replace(self, identity: Identity) -> None:
        """Writes a changed identity in place of the one of that name. Raises NotFound."""
        self._own(identity.tenant)
        rows = self._change(IDENTITIES)
        if identity.name not in rows:
            raise self._missing(identity.name)
        before = rows[identity.name]
        rows[identity.name] = stored(identity)
        self._note(before, rows[identity.name])

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"no identity {name} in {self._tenant}", "list them with: tailorbird identity list", code="identity_missing")


class MemoryApiKeys(Repository):
    """Implements ``ApiKeyRepository``."""

    def add(self, key: ApiKey) -> None:
        """Adds a key. Raises Conflict when its id is taken, in any tenant."""
        self._own(key.tenant)
        rows = self._change(API_KEYS)
        if any(key.id in taken for _, taken in self._transaction.every(API_KEYS)):
            raise Conflict("a key with this id exists", "make another key", code="key_taken")
        rows[key.id] = stored(key)
        self._note(None, rows[key.id])

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first, revoked ones too."""
        return tuple(sorted(self._rows(API_KEYS).values(), key=lambda key: (key.created_at, key.id)))

    def expire(self, key: str, at: datetime) -> ApiKey:
        """Makes the key with this id end at ``at``; one that ends earlier keeps its end. Raises NotFound."""
        ends = self._one(key).expires_at
        return self._set(key, expires_at=utc(at) if ends is None else min(ends, utc(at)))

    def limit(self, key: str, limits: KeyLimits) -> ApiKey:
        """Sets the limits of the key with this id. Raises NotFound."""
        return self._set(key, limits=limits)

    def revoke(self, key: str, at: datetime) -> ApiKey:
        """Revokes the key with this id; one that is revoked already keeps the time at which it was. Raises NotFound."""
        return self._set(key, revoked_at=self._one(key).revoked_at or utc(at))

    def _one(self, key: str) -> ApiKey:
        found = self._change(API_KEYS).get(key)
        if found is None:
            raise NotFound(f"no key {key} in {self._tenant}", "list them with: tailorbird key list", code="key_missing")
        return found

    def _set(self, key: str, **changes: object) -> ApiKey:
        before = self._one(key)
        changed = before.model_copy(update=changes)
        self._change(API_KEYS)[key] = changed
        self._note(before, changed)
        return changed


class MemorySessions(Repository):
    """Implements ``SessionRepository``."""

    def __init__(self, transaction: Transaction, tenant: str, clock: Clock) -> None:
        super().__init__(transaction, tenant)
        self._clock = clock

    def add(self, session: Session) -> None:
        """Adds a session, and clears away those that ended a day ago. Raises Conflict when its id was used, in any tenant."""
        self._own(session.tenant)
        rows = self._change(SESSIONS)
        if any(session.id in used for _, used in self._transaction.every(SESSIONS)):
            raise Conflict("this login was used already", "log in again", code="login_used")
        rows[session.id] = stored(session)
        self._note(None, rows[session.id])
        past = self._clock.now() - _KEPT
        for name, one in tuple(rows.items()):
            if min(one.expires_at, one.ended_at or one.expires_at) <= past:
                self._note(rows.pop(name), None)

    def end(self, session: str, at: datetime) -> None:
        """Ends a session; one that is unknown or has ended is left as it is."""
        self._end([one for one in self._change(SESSIONS).values() if one.id == session], at)

    def end_all(self, identity: str, at: datetime) -> None:
        """Ends every session of an identity that goes on."""
        self._end([one for one in self._change(SESSIONS).values() if one.identity == identity], at)

    def _end(self, chosen: list[Session], at: datetime) -> None:
        for one in chosen:
            if one.ended_at is None and one.expires_at > at:
                self._change(SESSIONS)[one.id] = one.model_copy(update={"ended_at": utc(at)})
