"""Repositories of identities, API keys and sessions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Update, delete, func, or_, update

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.identity import ApiKey, Identity, Session
from tailorbird.domain.quota import KeyLimits
from tailorbird.ledger.row_mapping import insert_new, own, select_fields, value_of
from tailorbird.ledger.tables import api_keys, identities, sessions
from tailorbird.ports.clock import Clock


class Identities:
    """Implements ``IdentityRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, identity: Identity) -> None:
        """Adds an identity. Raises Conflict when the name is taken."""
        own(self._tenant, identity.tenant)
        if not insert_new(self._connection, identities, _row(identity)):
            raise Conflict(f"{self._tenant} already has an identity {identity.name}", "choose another name", code="identity_taken")
        self._changes.note(None, self.get(identity.name))

    def get(self, name: str) -> Identity:
        """The identity. Raises NotFound."""
        row = self._connection.execute(self._all().where(identities.c.name == name)).one_or_none()
        if row is None:
            raise _no_identity(name, self._tenant)
        return value_of(Identity, row)

    def all(self) -> tuple[Identity, ...]:
        """All identities, by name."""
        return tuple(value_of(Identity, row) for row in self._connection.execute(self._all().order_by(identities.c.name)))

    def replace(self, identity: Identity) -> None:
        """Writes a changed identity in place of the one of that name. Raises NotFound."""
        own(self._tenant, identity.tenant)
        before = self.get(identity.name)
        here = (identities.c.tenant == self._tenant, identities.c.name == identity.name)
        self._connection.execute(update(identities).where(*here).values(_row(identity)))
        self._changes.note(before, self.get(identity.name))

    def _all(self) -> Select[Any]:
        return select_fields(identities, Identity).where(identities.c.tenant == self._tenant)


class ApiKeys:
    """Implements ``ApiKeyRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, key: ApiKey) -> None:
        """Adds a key. Raises Conflict when its id is taken, in any tenant."""
        own(self._tenant, key.tenant)
        sets = {"scopes": sorted(key.scopes), "groups": sorted(key.groups), "limits": plain_json(key.limits)}
        if not insert_new(self._connection, api_keys, key.model_dump() | sets):
            raise Conflict("a key with this id exists", "make another key", code="key_taken")
        self._changes.note(None, self._get(key.id))

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first, revoked ones too."""
        rows = self._connection.execute(self._all().order_by(api_keys.c.created_at, api_keys.c.id))
        return tuple(value_of(ApiKey, row) for row in rows)

    def expire(self, key: str, at: datetime) -> ApiKey:
        """Makes the key with this id end at ``at``; one that ends earlier keeps its end. Raises NotFound."""
        later = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > at)
        return self._set(key, update(api_keys).where(*self._here(key), later).values(expires_at=at))

    def limit(self, key: str, limits: KeyLimits) -> ApiKey:
        """Sets the limits of the key with this id. Raises NotFound."""
        return self._set(key, update(api_keys).where(*self._here(key)).values(limits=plain_json(limits)))

    def revoke(self, key: str, at: datetime) -> ApiKey:
        """Revokes the key with this id; one that is revoked already keeps the time at which it was. Raises NotFound."""
        return self._set(key, update(api_keys).where(*self._here(key)).values(revoked_at=func.coalesce(api_keys.c.revoked_at, at)))

    def _set(self, key: str, change: Update) -> ApiKey:
        before = self._get(key)
        self._connection.execute(change)
        after = self._get(key)
        self._changes.note(before, after)
        return after

    def _get(self, key: str) -> ApiKey:
        row = self._connection.execute(self._all().where(api_keys.c.id == key)).one_or_none()
        if row is None:
            raise NotFound(f"no key {key} in {self._tenant}", "list them with: tailorbird key list", code="key_missing")
        return value_of(ApiKey, row)

    def _here(self, key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return api_keys.c.tenant == self._tenant, api_keys.c.id == key

    def _all(self) -> Select[Any]:
        return select_fields(api_keys, ApiKey).where(api_keys.c.tenant == self._tenant)


def _row(identity: Identity) -> dict[str, Any]:
    return identity.model_dump() | {
        "roles": sorted(identity.roles),
        "former_keys": list(identity.former_keys),
        "admitted_by": list(identity.admitted_by),
    }


def _no_identity(name: str, tenant: str) -> NotFound:
    return NotFound(f"no identity {name} in {tenant}", "list them with: tailorbird identity list", code="identity_missing")


#: An ended session stays this long, far longer than a login may be old, so that its nonce is not taken twice.
_KEPT = timedelta(days=1)


class Sessions:
    """Implements ``SessionRepository``."""

    def __init__(self, connection: Connection, tenant: str, clock: Clock, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._clock = clock
        self._changes = changes or RowChanges()

    def add(self, session: Session) -> None:
        """Adds a session, and clears away those that ended a day ago. Raises Conflict when its id was used, in any tenant."""
        own(self._tenant, session.tenant)
        if not insert_new(self._connection, sessions, session.model_dump()):
            raise Conflict("this login was used already", "log in again", code="login_used")
        self._changes.note(None, stored_session(self._connection, session.id))
        past = self._clock.now() - _KEPT
        ended = or_(sessions.c.expires_at <= past, sessions.c.ended_at <= past)
        for row in self._connection.execute(select_fields(sessions, Session).where(sessions.c.tenant == self._tenant, ended)).all():
            self._changes.note(value_of(Session, row), None)
        self._connection.execute(delete(sessions).where(sessions.c.tenant == self._tenant, ended))

    def end(self, session: str, at: datetime) -> None:
        """Ends a session; one that is unknown or has ended is left as it is."""
        self._end(sessions.c.id == session, at)

    def end_all(self, identity: str, at: datetime) -> None:
        """Ends every session of an identity that goes on."""
        self._end(sessions.c.identity == identity, at)

    def _end(self, which: ColumnElement[bool], at: datetime) -> None:
        going_on = (sessions.c.ended_at.is_(None), sessions.c.expires_at > at)
        self._connection.execute(update(sessions).where(sessions.c.tenant == self._tenant, which, *going_on).values(ended_at=at))


def stored_session(connection: Connection, session: str) -> Session | None:
    """The session with this id, in whichever tenant."""
    row = connection.execute(select_fields(sessions, Session).where(sessions.c.id == session)).one_or_none()
    return value_of(Session, row) if row else None
