"""What requests have used up, by gateway, period and window; the gateways that count; what work has stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from support.doubles.ledger.deployment import REQUESTS
from support.doubles.ledger.tables import Repository, Table, utc
from tailorbird.crypto.anchored_rows import RowGroup, storage_group
from tailorbird.domain.quota import NOTHING, Amounts, KeyPeriod, KeyUsage, Period, Storage, Usage
from tailorbird.domain.value import Digest

#: Amounts by gateway, period and start of the window.
USAGE: Table[tuple[str, Period, datetime], Amounts] = Table("usage")
#: Amounts by key, gateway, period and start of the window.
KEY_USAGE: Table[tuple[str, str, KeyPeriod, datetime], Amounts] = Table("key_usage")
#: Bytes by the digest's hexadecimal part: it counts an artifact, and keeps none.
STORED: Table[str, int] = Table("stored")
#: Moves reached, and time, by gateway.
GATEWAYS: Table[str, tuple[int, datetime]] = Table("gateways")
#: How replicas stand, and time, by gateway.


class MemoryUsage(Repository):
    """Implements ``UsageRepository``."""

    def add(self, usage: Sequence[Usage]) -> None:
        """Adds to what the gateways counted in their windows."""
        if usage:
            rows = self._change(USAGE)
            for one in usage:
                key = (one.gateway, one.period, utc(one.start))
                rows[key] = rows.get(key, NOTHING).plus(one.amounts)

    def add_of_keys(self, usage: Sequence[KeyUsage]) -> None:
        """The same for API keys that have limits of their own."""
        if usage:
            rows = self._change(KEY_USAGE)
            for one in usage:
                key = (one.key, one.gateway, one.period, utc(one.start))
                counted = Amounts(one.requests, one.input_tokens, one.output_tokens, one.money)
                rows[key] = rows.get(key, NOTHING).plus(counted)

    def used(self, period: Period, start: datetime) -> Amounts:
        """What all gateways counted in the window that began at ``start``."""
        counted = NOTHING
        for (_, of, since), amounts in self._rows(USAGE).items():
            counted = counted.plus(amounts) if (of, since) == (period, start) else counted
        return counted

    def paid(self, endpoint: str, start: datetime) -> float:
        """What the endpoint was paid for requests from ``start`` (inclusive) on."""
        return sum(row.paid for row in self._rows(REQUESTS).values() if row.endpoint == endpoint != "" and row.at >= start)


class MemoryStorage(Repository):
    """Implements ``StorageRepository``."""

    def add(self, sizes: Mapping[Digest, int]) -> None:
        """Counts artifacts; those that are counted already stay as they are."""
        if sizes:
            rows = self._change(STORED)
            with self._transaction.unanchored.changing(self.groups):
                for digest, size in sizes.items():
                    rows.setdefault(_name(digest), size)

    def counted(self, named: Collection[Digest]) -> frozenset[Digest]:
        """Those of ``named`` that are counted."""
        rows = self._rows(STORED)
        return frozenset(digest for digest in named if _name(digest) in rows)

    def forget(self, named: Collection[Digest]) -> None:
        """Counts these no longer."""
        rows = self._change(STORED)
        with self._transaction.unanchored.changing(self.groups):
            for digest in named:
                rows.pop(_name(digest), None)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield storage_group(self._tenant, self.total())

    def total(self) -> Storage:
        """How many there are, and their bytes."""
        rows = self._rows(STORED)
        return Storage(artifacts=len(rows), bytes=sum(rows.values()))


def _name(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


class MemoryUsageBook(Repository):
    """Implements ``UsageBook``."""

    def by_others(self, gateway: str, starts: Mapping[Period, datetime]) -> dict[tuple[str, Period], Amounts]:
        """What other gateways than ``gateway`` counted in those windows, by tenant and period."""
        found: defaultdict[tuple[str, Period], Amounts] = defaultdict(Amounts)
        for tenant, rows in self._transaction.every(USAGE):
            for (counter, period, start), amounts in rows.items():
                if counter != gateway and starts.get(period) == start:
                    found[tenant, period] = found[tenant, period].plus(amounts)
        return dict(found)

    def of_keys_by_others(self, gateway: str, starts: Mapping[KeyPeriod, datetime]) -> dict[tuple[str, KeyPeriod], Amounts]:
        """The same for API keys that have limits of their own, by key and period."""
        found: defaultdict[tuple[str, KeyPeriod], Amounts] = defaultdict(Amounts)
        for _, rows in self._transaction.every(KEY_USAGE):
            for (key, counter, period, start), amounts in rows.items():
                if counter != gateway and starts.get(period) == start:
                    found[key, period] = found[key, period].plus(amounts)
        return dict(found)

    def prune(self, before: datetime) -> int:
        """Forgets minutes that began before, and days of keys two days older than that; how many rows there were."""
        gone = 0
        for tenant, _ in tuple(self._transaction.every(USAGE)):
            rows = self._transaction.change(USAGE, tenant)
            for key in [key for key in rows if key[1] == "minute" and key[2] < before]:
                gone += rows.pop(key) is not None
        for tenant, _ in tuple(self._transaction.every(KEY_USAGE)):
            days = self._transaction.change(KEY_USAGE, tenant)
            for name in [name for name in days if name[3] < (before if name[2] == "minute" else before - timedelta(days=2))]:
                gone += days.pop(name) is not None
        return gone


class MemoryGateways(Repository):
    """Implements ``GatewayDirectory``."""

    def beat(self, gateway: str, moves: int, at: datetime) -> None:
        """Says that ``gateway`` serves, with every alias as of the move number ``moves``."""
        self._change(GATEWAYS)[gateway] = (moves, utc(at))

    def serving(self, since: datetime) -> dict[str, int]:
        """Gateways that said so at or after ``since``, and the move each had reached."""
        return {gateway: moves for gateway, (moves, at) in self._rows(GATEWAYS).items() if at >= since}

    def leave(self, gateway: str) -> None:
        """Says that ``gateway`` serves no more."""
        self._change(GATEWAYS).pop(gateway, None)
