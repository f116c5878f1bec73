"""What was used up: by one tenant, and, above tenants, by all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tailorbird.domain.quota import Amounts, KeyPeriod, KeyUsage, Period, Storage, Usage
from tailorbird.domain.value import Digest


class UsageRepository(Protocol):
    """One tenant's usage."""

    def add(self, usage: Sequence[Usage]) -> None:
        """Adds to what the gateways counted in their windows."""
        ...

    def add_of_keys(self, usage: Sequence[KeyUsage]) -> None:
        """The same for API keys that have limits of their own."""
        ...

    def used(self, period: Period, start: datetime) -> Amounts:
        """What all gateways counted in the window that began at ``start``."""
        ...

    def paid(self, endpoint: str, start: datetime) -> float:
        """What the endpoint was paid for requests from ``start`` (inclusive) on, mirrored ones and those that it did not answer among
        them."""
        ...


class StorageRepository(Protocol):
    """One tenant's artifacts: which its work has stored, each once, and their bytes. What is counted is kept, or not, for other reasons."""

    def add(self, sizes: Mapping[Digest, int]) -> None:
        """Counts artifacts; those that are counted already stay as they are."""
        ...

    def counted(self, named: Collection[Digest]) -> frozenset[Digest]:
        """Those of ``named`` that are counted."""
        ...

    def forget(self, named: Collection[Digest]) -> None:
        """Counts these no longer: they were destroyed."""
        ...

    def total(self) -> Storage:
        """How many there are, and their bytes."""
        ...


class UsageBook(Protocol):
    """System repository: usage of all tenants, as a gateway needs it."""

    def by_others(self, gateway: str, starts: Mapping[Period, datetime]) -> dict[tuple[str, Period], Amounts]:
        """What other gateways than ``gateway`` counted in the windows that began at ``starts``, by tenant and period."""
        ...

    def of_keys_by_others(self, gateway: str, starts: Mapping[KeyPeriod, datetime]) -> dict[tuple[str, KeyPeriod], Amounts]:
        """The same for API keys that have limits of their own, by key and period."""
        ...

    def prune(self, before: datetime) -> int:
        """Forgets minutes that began before, and days of keys two days older than that; how many rows there were."""
        ...


class GatewayDirectory(Protocol):
    """System repository: the gateways that serve now."""

    def beat(self, gateway: str, moves: int, at: datetime) -> None:
        """Says that ``gateway`` serves, with every alias as of the move number ``moves``."""
        ...

    def serving(self, since: datetime) -> dict[str, int]:
        """Gateways that said so at or after ``since``, and the move each had reached. Older ones are forgotten."""
        ...

    def leave(self, gateway: str) -> None:
        """Says that ``gateway`` serves no more."""
        ...
