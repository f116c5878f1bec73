"""What was used up: by one tenant, and, above tenants, by all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tailorbird.domain.quota import Amounts, Period, Usage


class UsageRepository(Protocol):
    """One tenant's usage."""

    def add(self, usage: Sequence[Usage]) -> None:
        """Adds to what the gateways counted in their windows."""
        ...

    def used(self, period: Period, start: datetime) -> Amounts:
        """What all gateways counted in the window that began at ``start``."""
        ...


class UsageBook(Protocol):
    """System repository: usage of all tenants, as a gateway needs it."""

    def by_others(self, gateway: str, starts: Mapping[Period, datetime]) -> dict[tuple[str, Period], Amounts]:
        """What other gateways than ``gateway`` counted in the windows that began at ``starts``, by tenant and period."""
        ...

    def prune(self, before: datetime) -> int:
        """Forgets minutes that began before; how many rows there were."""
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
