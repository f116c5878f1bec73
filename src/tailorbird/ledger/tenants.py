"""Repositories of tenants with who acts for them, their keys, secrets and erasures, and of what they use and store."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, and_, case, delete, exists, func, or_, select, update

from tailorbird.crypto.anchored_rows import RowGroup, erasure_group, secret_group, storage_group
from tailorbird.domain.deployment import SHADOW
from tailorbird.domain.erasure import Erasure, ErasureState
from tailorbird.domain.errors import Busy, Conflict, Corrupt, LeaseLost, NotFound
from tailorbird.domain.identity import (
    Amounts,
    ApiKey,
    Identity,
    KeyLimits,
    Period,
    Session,
    Signature,
    Storage,
    Tenant,
    Usage,
    WrappedKey,
    window_end,
    window_start,
)
from tailorbird.domain.value import Digest
from tailorbird.ledger.repository import (
    ROWS_AT_ONCE,
    Repository,
    begins,
    insert_all_new,
    insert_new,
    portions,
    row_of,
    select_fields,
    upsert,
)
from tailorbird.ledger.tables import (
    alias_moves,
    api_keys,
    data_keys,
    erasures,
    gateways,
    identities,
    log_entries,
    metadata,
    requests,
    secrets,
    sessions,
    stored,
    tenants,
    unreadable,
    usage,
)


class Tenants(Repository):
    """System repository: the tenants, and which key belongs to which."""

    def add(self, tenant: Tenant) -> None:
        """Adds a tenant. Raises Conflict when the name is taken."""
        if not insert_new(self._connection, tenants, row_of(tenants, tenant)):
            raise Conflict(f"there is a tenant {tenant.name} already", "choose another name", code="identity_taken")
        self._changes.note(None, self.get(tenant.name))

    def all(self) -> dict[str, Tenant | None]:
        """All tenants by name, in order; None stands for one whose row cannot be read."""
        try:
            return {tenant.name: tenant for tenant in self._many(Tenant, select_fields(tenants, Tenant).order_by(tenants.c.name))}
        except Corrupt:
            found: dict[str, Tenant | None] = {}
            for name in self._connection.scalars(select(tenants.c.name).order_by(tenants.c.name)).all():
                try:
                    found[name] = self.get(name)
                except Corrupt:
                    found[name] = None
            return found

    def get(self, name: str) -> Tenant:
        """The tenant. Raises NotFound."""
        found = self._one(Tenant, select_fields(tenants, Tenant).where(tenants.c.name == name))
        if found is None:
            raise no_tenant(name)
        return found

    def replace(self, tenant: Tenant) -> None:
        """Writes a changed tenant in place of the one of that name. Raises NotFound."""
        with self._changing(lambda: (self.get(tenant.name),)):
            self._run(update(tenants).where(tenants.c.name == tenant.name).values(row_of(tenants, tenant)))

    def remove(self, name: str) -> dict[str, int]:
        """Deletes a tenant with every row that is its, in every table but the event log. Returns rows a table. Raises NotFound."""
        self.get(name)
        owned = [table for table in reversed(metadata.sorted_tables) if "tenant" in table.c and table is not log_entries]
        rows = {table.name: self._run(delete(table).where(table.c.tenant == name)) for table in owned}
        self._run(delete(tenants).where(tenants.c.name == name))
        self._changes.note_none_left(name)
        self._run(update(alias_moves).values(count=alias_moves.c.count + 1))
        return rows

    def key(self, key_id: str) -> ApiKey | None:
        """The key with this id, in whichever tenant."""
        return self._one(ApiKey, select_fields(api_keys, ApiKey).where(api_keys.c.id == key_id))

    def session(self, session_id: str) -> Session | None:
        """The session with this id, in whichever tenant."""
        return self._one(Session, select_fields(sessions, Session).where(sessions.c.id == session_id))

    def with_erasures(self) -> tuple[str, ...]:
        """Names of tenants of whom somebody was erased."""
        return tuple(sorted(self._texts(erasures.c.tenant)))

    def aliases_moved(self) -> int:
        """Total number of alias moves."""
        return int(self._connection.execute(select(alias_moves.c.count)).scalar_one())


def no_tenant(name: str) -> NotFound:
    """There is no such tenant."""
    return NotFound(f"there is no tenant {name}", "make it with: tailorbird tenant add", code="tenant_missing")


class Identities(Repository):
    """One tenant's identities."""

    def add(self, identity: Identity) -> None:
        """Adds an identity. Raises Conflict when the name is taken."""
        if not self._add(identities, identity):
            raise Conflict(f"{self._tenant} already has an identity {identity.name}", "choose another name", code="identity_taken")
        self._changes.note(None, self.get(identity.name))

    def get(self, name: str) -> Identity:
        """The identity. Raises NotFound."""
        found = self._one(Identity, self._rows(identities, Identity, identities.c.name == name))
        if found is None:
            raise NotFound(f"no identity {name} in {self._tenant}", "list them with: tailorbird identity list", code="identity_missing")
        return found

    def all(self) -> tuple[Identity, ...]:
        """All identities, by name."""
        return self._many(Identity, self._rows(identities, Identity).order_by(identities.c.name))

    def replace(self, identity: Identity) -> None:
        """Writes a changed identity in place of the one of that name. Raises NotFound."""
        self._own(identity)
        with self._changing(lambda: (self.get(identity.name),)):
            here = self._here(identities, identities.c.name == identity.name)
            self._run(update(identities).where(here).values(row_of(identities, identity)))


class ApiKeys(Repository):
    """One tenant's API keys."""

    def add(self, key: ApiKey) -> None:
        """Adds a key. Raises Conflict when its id is taken, in any tenant."""
        if not self._add(api_keys, key):
            raise Conflict("a key with this id exists", "make another key")
        self._changes.note(None, self._get(key.id))

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first, revoked ones too."""
        return self._many(ApiKey, self._rows(api_keys, ApiKey).order_by(api_keys.c.created_at, api_keys.c.id))

    def expire(self, key: str, at: datetime) -> ApiKey:
        """Makes the key with this id end at ``at``; one that ends earlier keeps its end. Raises NotFound."""
        later = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > at)
        return self._set(key, update(api_keys).where(later).values(expires_at=at))

    def limit(self, key: str, limits: KeyLimits) -> ApiKey:
        """Sets the limits of the key with this id. Raises NotFound."""
        return self._set(key, update(api_keys).values(limits=limits.model_dump()))

    def revoke(self, key: str, at: datetime) -> ApiKey:
        """Revokes the key with this id; one that is revoked already keeps the time at which it was. Raises NotFound."""
        return self._set(key, update(api_keys).values(revoked_at=func.coalesce(api_keys.c.revoked_at, at)))

    def _set(self, key: str, change: Update) -> ApiKey:
        with self._changing(lambda: (self._get(key),)):
            self._run(change.where(self._here(api_keys, api_keys.c.id == key)))
        return self._get(key)

    def _get(self, key: str) -> ApiKey:
        found = self._one(ApiKey, self._rows(api_keys, ApiKey, api_keys.c.id == key))
        if found is None:
            raise NotFound(f"no key {key} in {self._tenant}", "list them with: tailorbird key list", code="key_missing")
        return found


#: An ended session stays this long, far longer than a login may be old, so that its nonce is not taken twice.
_KEPT = timedelta(days=1)


class Sessions(Repository):
    """One tenant's sessions at the control API and the console."""

    def add(self, session: Session) -> None:
        """Adds a session, and clears away those that ended a day ago. Raises Conflict when its id was used, in any tenant."""
        if not self._add(sessions, session):
            raise Conflict("this login was used already", "log in again")
        self._changes.note(None, self._one(Session, self._rows(sessions, Session, sessions.c.id == session.id)))
        past = self._clock.now() - _KEPT
        ended = or_(sessions.c.expires_at <= past, sessions.c.ended_at <= past)
        for old in self._many(Session, self._rows(sessions, Session, ended)):
            self._changes.note(old, None)
        self._run(delete(sessions).where(self._here(sessions, ended)))

    def end(self, session: str, at: datetime) -> None:
        """Ends a session; one that is unknown or has ended is left as it is."""
        self._end(sessions.c.id == session, at)

    def end_all(self, identity: str, at: datetime) -> None:
        """Ends every session of an identity that goes on."""
        self._end(sessions.c.identity == identity, at)

    def _end(self, which: ColumnElement[bool], at: datetime) -> None:
        going_on = self._here(sessions, which, sessions.c.ended_at.is_(None), sessions.c.expires_at > at)
        self._run(update(sessions).where(going_on).values(ended_at=at))


class Secrets(Repository):
    """One tenant's secrets, made at random on first use and the same on every machine. They are in the record and nowhere else."""

    def get(self, name: str) -> bytes:
        """The secret called ``name``; of two who make it at once, both get the one that was written first."""
        query = select(secrets.c.value).where(self._here(secrets, secrets.c.name == name))
        value = self._connection.scalar(query)
        if value is None:
            made = randomness.token_hex(32)
            if insert_new(self._connection, secrets, {"tenant": self._tenant, "name": name, "value": made}):
                self._changes.note(None, secret_group(self._tenant, name, bytes.fromhex(made)))
            value = self._connection.scalar(query)
        return _secret_of(value)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each."""
        for name, value in self._connection.execute(select(secrets.c.name, secrets.c.value).where(self._here(secrets))):
            yield secret_group(self._tenant, name, _secret_of(value))


def _secret_of(value: str | None) -> bytes:
    try:
        return bytes.fromhex(value or "")
    except ValueError:
        raise unreadable("secret of the tenant") from None


class DataKeys(Repository):
    """A tenant's wrapped data key."""

    def get(self) -> WrappedKey | None:
        """The key; None before it was made."""
        return self._one(WrappedKey, self._rows(data_keys, WrappedKey))

    def add(self, made: WrappedKey) -> WrappedKey:
        """Keeps a key unless there is one; of two who make it at once, both get the one that was written first."""
        self._add(data_keys, made)
        return self.get() or made

    def rewrap(self, scope: str, wrapped: str) -> None:
        """Replaces the wrapped form. Raises NotFound."""
        if not self._run(update(data_keys).where(self._here(data_keys, data_keys.c.scope == scope)).values(wrapped=wrapped)):
            raise NotFound(f"tenant {self._tenant} has no such data key", "it was removed, or never had one", code="data_key_missing")


class Erasures(Repository):
    """One tenant's erasures. One worker at a time carries one out; a lease not kept alive until ``lease_until`` may be taken over."""

    def add(self, erasure: Erasure) -> Erasure:
        """Adds ``erasure``, or returns the one of its subject."""
        with self._changing(self.groups):
            self._add(erasures, erasure, number=self._next(erasures))
        return self._only(erasures.c.subject == erasure.subject)

    def get(self, erasure: str) -> Erasure:
        """The erasure whose id is, or alone starts with, ``erasure``. Raises NotFound."""
        return self._only(begins(erasures.c.id, erasure))

    def all(self) -> tuple[Erasure, ...]:
        """All erasures, newest first."""
        return self._many(Erasure, self._rows(erasures, Erasure).order_by(erasures.c.number.desc()))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield erasure_group(self._tenant, self.all())

    def take(self, erasure: str, owner: str, ttl: timedelta) -> None:
        """Takes, or keeps, the lease. Raises Busy."""
        now = self._clock.now()
        free = or_(erasures.c.owner.is_(None), erasures.c.owner == owner, erasures.c.lease_until < now)
        if not self._change(erasure, free, owner=owner, lease_until=now + ttl):
            raise Busy(
                f"somebody else carries out the erasure {erasure}",
                "wait for them; if they were killed, try again in half a minute",
                code="erasure_busy",
            )

    def finish(self, erasure: str, owner: str, certificate: Digest) -> Erasure:
        """Notes the certificate, which is to be signed, and gives the lease back. Raises LeaseLost."""
        noted = {"certificate": certificate, "signature": None, "state": ErasureState.OPEN}
        with self._changing(self.groups):
            finished = self._change(erasure, erasures.c.owner == owner, owner=None, lease_until=None, **noted)
        if not finished:
            raise LeaseLost(f"somebody else carries out the erasure {erasure} by now", "see: tailorbird data erasures", code="lease_lost")
        return self.get(erasure)

    def sign(self, erasure: str, certificate: Digest, signature: Signature) -> Erasure:
        """Files the signature over the certificate. Raises Conflict when the certificate is another one."""
        same = erasures.c.certificate == certificate
        with self._changing(self.groups):
            signed = self._change(erasure, same, signature=signature.model_dump(), state=ErasureState.DONE)
        if not signed:
            raise Conflict(f"the erasure {erasure} has another certificate by now", "read it again, and sign that")
        return self.get(erasure)

    def _only(self, which: ColumnElement[bool]) -> Erasure:
        found = self._many(Erasure, self._rows(erasures, Erasure, which).limit(2))
        if len(found) != 1:
            raise NotFound(f"no such erasure in {self._tenant}, or more than one", "list them with: tailorbird data erasures")
        return found[0]

    def _change(self, erasure: str, when: ColumnElement[bool], **values: Any) -> bool:
        return self._run(update(erasures).where(self._here(erasures, erasures.c.id == erasure, when)).values(**values)) == 1


_COUNTS = Amounts._fields
#: What a count is bounded by.
_MOST = 2**62


class Usages(Repository):
    """One tenant's usage."""

    def add(self, counted: Sequence[Usage]) -> None:
        """Adds to what the gateways counted in their windows."""
        upsert(self._connection, usage, [row_of(usage, one, tenant=self._tenant) for one in counted], summed=_COUNTS)

    def used(self, period: Period, start: datetime) -> Amounts:
        """Usage counted by all gateways in the window that began at ``start``."""
        window = self._here(usage, usage.c.key == "", usage.c.period == period, usage.c.start == start)
        return _amounts(self._connection.execute(_sums().where(window)).one())

    def paid(self, endpoint: str, start: datetime) -> float:
        """What the endpoint was paid for requests from ``start`` (inclusive) on."""
        window = self._here(requests, requests.c.endpoint == endpoint, requests.c.endpoint != "", requests.c.at >= start)
        return float(self._connection.execute(select(func.coalesce(func.sum(requests.c.paid), 0.0)).where(window)).scalar_one())


class StoredArtifacts(Repository):
    """One tenant's artifacts: which its work has stored, each once, and their bytes."""

    def add(self, sizes: Mapping[Digest, int]) -> None:
        """Counts artifacts; those that are counted already stay as they are."""
        rows = [{"tenant": self._tenant, "name": _name(digest), "bytes": size} for digest, size in sorted(sizes.items())]
        with self._changing(self.groups):
            insert_all_new(self._connection, stored, rows)

    def counted(self, named: Collection[Digest]) -> frozenset[Digest]:
        """Members of ``named`` that are counted."""
        found: set[Digest] = set()
        for some in portions(map(_name, named)):
            found |= {f"sha256:{name}" for name in self._texts(stored.c.name, self._here(stored, stored.c.name.in_(some)))}
        return frozenset(found)

    def forget(self, named: Collection[Digest]) -> None:
        """Counts these no longer."""
        with self._changing(self.groups):
            self._run_on(lambda some: delete(stored).where(self._here(stored, stored.c.name.in_(some))), map(_name, named))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield storage_group(self._tenant, self.total())

    def total(self) -> Storage:
        """Number of artifacts, and their bytes."""
        summed = select(func.count(), func.coalesce(func.sum(stored.c.bytes), 0)).where(self._here(stored))
        artifacts, size = self._connection.execute(summed).one()
        return Storage(artifacts=int(artifacts), bytes=int(size))


def _name(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


class AllStored(Repository):
    """System repository: what the work of all tenants has stored."""

    def by_others(self, tenant: str, named: Collection[Digest]) -> frozenset[Digest]:
        """Members of ``named`` that the work of another tenant has stored, too."""
        others = select(tenants.c.name).where(tenants.c.name != tenant)
        found: set[Digest] = set()
        for some in portions(map(_name, named)):
            found |= {f"sha256:{name}" for name in self._texts(stored.c.name, stored.c.tenant.in_(others), stored.c.name.in_(some))}
        return frozenset(found)


class AllUsage(Repository):
    """System repository: usage of all tenants, as a gateway needs it."""

    def by_others(
        self, gateway: str, starts: Mapping[Period, datetime], key_starts: Mapping[str, datetime]
    ) -> dict[tuple[str, str, str], Amounts]:
        """Usage counted by gateways other than ``gateway``, by tenant, key (empty: of the tenant itself) and period: of tenants in the
        windows that began at ``starts``, of their API keys in those of ``key_starts``."""
        windows = [and_(usage.c.key == "", usage.c.period == period, usage.c.start == start) for period, start in starts.items()]
        windows += [and_(usage.c.key != "", usage.c.period == period, usage.c.start == start) for period, start in key_starts.items()]
        groups = (usage.c.tenant, usage.c.key, usage.c.period)
        others = _sums(*groups).where(usage.c.gateway != gateway, or_(*windows)).group_by(*groups)
        return {(row.tenant, row.key, row.period): _amounts(row) for row in self._connection.execute(others)}

    def unexplained(self, tenant: str, now: datetime, purged: datetime | None) -> Iterator[str]:
        """Windows in which what a tenant or a key has used is not what the rows of its requests sum to: months, the last days and the last
        hour of minutes. ``purged``: rows from before are gone, so that only counts below what is left are named."""
        if not self._connection.scalar(select(exists().where(usage.c.tenant == tenant))):
            return  # no gateway has counted anything
        charged = and_(requests.c.tenant == tenant, requests.c.release.is_not(None), requests.c.arm != SHADOW)
        fields = (requests.c.prompt_tokens, requests.c.completion_tokens, requests.c.cost)
        sums = (func.count().label("requests"), *(func.sum(field).label(name) for field, name in zip(fields, _COUNTS[1:], strict=True)))
        hour, yesterday = window_start("minute", now - timedelta(hours=1)), window_start("day", now) - timedelta(days=1)
        rows: dict[tuple[str, str, datetime], Amounts] = {}
        first, last = self._connection.execute(select(func.min(requests.c.at), func.max(requests.c.at)).where(charged)).one()
        start = window_start("month", first) if first else now
        while first and start <= last:
            month = and_(charged, requests.c.at >= start, requests.c.at < window_end("month", start))
            for row in self._connection.execute(select(*sums).where(month)):
                rows |= {("", "month", start): _amounts(row)} if row.requests else {}
            start = window_end("month", start)
        for start in (yesterday, yesterday + timedelta(days=1)):
            day = and_(charged, requests.c.at >= start, requests.c.at < window_end("day", start))
            for row in self._connection.execute(select(requests.c.key, *sums).where(day).group_by(requests.c.key)):
                rows[row.key, "day", start] = _amounts(row)
        lately = select(requests.c.key, requests.c.at, *fields).where(charged, requests.c.at >= hour)
        for key, at, *used in self._connection.execute(lately.execution_options(yield_per=ROWS_AT_ONCE)):
            for of in {"", key}:
                window = (of, "minute", window_start("minute", at))
                rows[window] = rows.get(window, Amounts()).plus(Amounts(1, *used))
        groups = (usage.c.key, usage.c.period, usage.c.start)
        lately_counted = usage.c.start >= case((usage.c.period == "day", yesterday), else_=hour)
        query = _sums(*groups).where(usage.c.tenant == tenant, or_(usage.c.period == "month", lately_counted)).group_by(*groups)
        counted = {(row.key, row.period, row.start): _amounts(row) for row in self._connection.execute(query)}
        for window in sorted(rows.keys() | counted.keys()):
            key, period, start = window
            by_rows, by_count = rows.get(window, Amounts()), counted.get(window, Amounts())
            less = any(count < row - 1e-6 * max(1.0, row) for row, count in zip(by_rows, by_count, strict=True))
            more = any(count > row + 1e-6 * max(1.0, row) for row, count in zip(by_rows, by_count, strict=True))
            if less or (more and not (purged and start < purged)):
                whose = f"the key {key}" if key else "the tenant"
                yield f"what {whose} used in the {period} of {start:%Y-%m-%d %H:%M} is not what the rows of its requests sum to"

    def prune(self, before: datetime) -> int:
        """Forgets minutes that began before, and days of keys two days older than that; how many rows there were."""
        old = [
            delete(usage).where(usage.c.period == "minute", usage.c.start < before),
            delete(usage).where(usage.c.period == "day", usage.c.start < before - timedelta(days=2)),
        ]
        return sum(map(self._run, old))


class Gateways(Repository):
    """System repository: the gateways that serve now."""

    def beat(self, gateway: str, moves: int, at: datetime) -> None:
        """Records a heartbeat of ``gateway``, with every alias as of the move number ``moves``."""
        upsert(self._connection, gateways, [{"id": gateway, "moves": moves, "at": at}], replaced=("moves", "at"))

    def serving(self, since: datetime) -> dict[str, int]:
        """Gateways that said so at or after ``since``, and the move each had reached."""
        return {row.id: row.moves for row in self._connection.execute(select(gateways).where(gateways.c.at >= since))}

    def leave(self, gateway: str) -> None:
        """Removes ``gateway``."""
        self._run(delete(gateways).where(gateways.c.id == gateway))


def _sums(*groups: ColumnElement[Any]) -> Select[Any]:
    return select(*groups, *(func.coalesce(func.sum(usage.c[name]), 0).label(name) for name in _COUNTS))


def _amounts(row: Any) -> Amounts:
    """PostgreSQL sums big integers to decimals; a number that SQLite was given for a count may be infinite."""
    asked, read, written = (int(max(-_MOST, min(one, _MOST))) for one in (row.requests, row.input_tokens, row.output_tokens))
    return Amounts(asked, read, written, float(row.money))
