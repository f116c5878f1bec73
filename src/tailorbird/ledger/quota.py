"""Repositories of usage per gateway, period and window, of gateways, and of stored artifacts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, delete, func, or_, select

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, storage_group
from tailorbird.domain.quota import Amounts, KeyPeriod, KeyUsage, Period, Storage, Usage
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import insert_all_new, portions, upsert
from tailorbird.ledger.tables import gateways, key_usage, requests, stored, usage

_COUNTS = Amounts._fields
#: What a count is bounded by.
_MOST = 2**62


class Usages:
    """Implements ``UsageRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, counted: Sequence[Usage]) -> None:
        """Adds to what the gateways counted in their windows."""
        upsert(self._connection, usage, [one.model_dump() | {"tenant": self._tenant} for one in counted], summed=_COUNTS)

    def add_of_keys(self, counted: Sequence[KeyUsage]) -> None:
        """The same for API keys that have limits of their own."""
        upsert(self._connection, key_usage, [one.model_dump() | {"tenant": self._tenant} for one in counted], summed=_COUNTS)

    def used(self, period: Period, start: datetime) -> Amounts:
        """Usage counted by all gateways in the window that began at ``start``."""
        window = (usage.c.tenant == self._tenant, usage.c.period == period, usage.c.start == start)
        return _amounts(self._connection.execute(_sums().where(*window)).one())

    def paid(self, endpoint: str, start: datetime) -> float:
        """What the endpoint was paid for requests from ``start`` (inclusive) on."""
        asked = (requests.c.tenant == self._tenant, requests.c.endpoint == endpoint, requests.c.endpoint != "", requests.c.at >= start)
        return float(self._connection.execute(select(func.coalesce(func.sum(requests.c.paid), 0.0)).where(*asked)).scalar_one())


class StoredArtifacts:
    """Implements ``StorageRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, sizes: Mapping[Digest, int]) -> None:
        """Counts artifacts; those that are counted already stay as they are."""
        rows = [{"tenant": self._tenant, "name": _name(digest), "bytes": size} for digest, size in sorted(sizes.items())]
        with self._changes.changing(self.groups):
            insert_all_new(self._connection, stored, rows)

    def counted(self, named: Collection[Digest]) -> frozenset[Digest]:
        """Members of ``named`` that are counted."""
        found: set[Digest] = set()
        for some in portions(map(_name, named)):
            asked = select(stored.c.name).where(stored.c.tenant == self._tenant, stored.c.name.in_(some))
            found |= {f"sha256:{name}" for name in self._connection.scalars(asked)}
        return frozenset(found)

    def forget(self, named: Collection[Digest]) -> None:
        """Counts these no longer."""
        with self._changes.changing(self.groups):
            for some in portions(map(_name, named)):
                self._connection.execute(delete(stored).where(stored.c.tenant == self._tenant, stored.c.name.in_(some)))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield storage_group(self._tenant, self.total())

    def total(self) -> Storage:
        """Number of artifacts, and their bytes."""
        summed = select(func.count(), func.coalesce(func.sum(stored.c.bytes), 0)).where(stored.c.tenant == self._tenant)
        artifacts, size = self._connection.execute(summed).one()
        return Storage(artifacts=int(artifacts), bytes=int(size))


def _name(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


class AllUsage:
    """Implements ``UsageBook``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def by_others(self, gateway: str, starts: Mapping[Period, datetime]) -> dict[tuple[str, Period], Amounts]:
        """Usage counted by gateways other than ``gateway`` in those windows, by tenant and period."""
        windows: list[ColumnElement[bool]] = [and_(usage.c.period == period, usage.c.start == start) for period, start in starts.items()]
        others = _sums(usage.c.tenant, usage.c.period).where(usage.c.gateway != gateway, or_(*windows))
        rows = self._connection.execute(others.group_by(usage.c.tenant, usage.c.period))
        return {(row.tenant, row.period): _amounts(row) for row in rows}

    def of_keys_by_others(self, gateway: str, starts: Mapping[KeyPeriod, datetime]) -> dict[tuple[str, KeyPeriod], Amounts]:
        """The same for API keys that have limits of their own, by key and period."""
        windows: list[ColumnElement[bool]] = [
            and_(key_usage.c.period == period, key_usage.c.start == start) for period, start in starts.items()
        ]
        others = _sums(key_usage.c.key, key_usage.c.period, of=key_usage).where(key_usage.c.gateway != gateway, or_(*windows))
        rows = self._connection.execute(others.group_by(key_usage.c.key, key_usage.c.period))
        return {(row.key, row.period): _amounts(row) for row in rows}

    def prune(self, before: datetime) -> int:
        """Forgets minutes that began before, and days of keys two days older than that; how many rows there were."""
        old = [
            delete(usage).where(usage.c.period == "minute", usage.c.start < before),
            delete(key_usage).where(key_usage.c.period == "minute", key_usage.c.start < before),
            delete(key_usage).where(key_usage.c.start < before - timedelta(days=2)),
        ]
        return sum(self._connection.execute(each).rowcount for each in old)


class Gateways:
    """Implements ``GatewayDirectory``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, gateway: str, moves: int, at: datetime) -> None:
        """Records a heartbeat of ``gateway``, with every alias as of the move number ``moves``."""
        upsert(self._connection, gateways, [{"id": gateway, "moves": moves, "at": at}], replaced=("moves", "at"))

    def serving(self, since: datetime) -> dict[str, int]:
        """Gateways that said so at or after ``since``, and the move each had reached."""
        return {row.id: row.moves for row in self._connection.execute(select(gateways).where(gateways.c.at >= since))}

    def leave(self, gateway: str) -> None:
        """Removes ``gateway``."""
        self._connection.execute(delete(gateways).where(gateways.c.id == gateway))


def _sums(*groups: ColumnElement[Any], of: Table = usage) -> Select[Any]:
    return select(*groups, *(func.coalesce(func.sum(of.c[name]), 0).label(name) for name in _COUNTS))


def _amounts(row: Any) -> Amounts:
    """PostgreSQL sums big integers to decimals; a number that SQLite was given for a count may be infinite."""
    asked, read, written = (int(max(-_MOST, min(one, _MOST))) for one in (row.requests, row.input_tokens, row.output_tokens))
    return Amounts(asked, read, written, float(row.money))
