"""Aliases and the rows requests leave."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from tailorbird.domain.deployment import Alias, RequestRow, Stage, Traffic
from tailorbird.domain.value import Digest


class AliasRepository(Protocol):
    """One tenant's aliases."""

    def get(self, name: str, stage: Stage = "production") -> Alias:
        """The alias. Raises NotFound."""
        ...

    def all(self, only: Collection[str] | None = None, stage: Stage | None = "production") -> tuple[Alias, ...]:
        """All aliases of a stage (None: of both), by name; only those named, where given."""
        ...

    def put(self, alias: Alias) -> None:
        """Writes ``alias``; its version must be one above the stored one (1 for a new one). Raises Conflict otherwise."""
        ...

    def history(self, name: str, stage: Stage = "production") -> tuple[Alias, ...]:
        """Every version the alias had, oldest first."""
        ...


class AliasBook(Protocol):
    """System repository: aliases of all tenants."""

    def newest(self) -> dict[str, tuple[int, datetime | None]]:
        """Version and time (None where that cannot be read) of every alias's last move, by path, of every stage: what a gateway compares
        with what it knows."""
        ...

    def moved_since(self, moves: int) -> frozenset[str] | None:
        """Paths of the aliases that moved after there had been so many moves of any; None where the record cannot tell,
        as after a tenant was removed. Takes as long as so many moves, however many aliases there are."""
        ...

    def rolling_out(self) -> tuple[str, ...]:
        """Tenants that have a rollout which goes on, by name."""
        ...


class RequestRepository(Protocol):
    """One tenant's request rows."""

    def add(self, rows: Sequence[RequestRow]) -> None:
        """Adds rows, all or none. Raises Conflict when the id of one is taken."""
        ...

    def settle(self, row: RequestRow) -> bool:
        """Writes ``row`` in place of the open one of its id; False where none is open, or its person was forgotten meanwhile."""
        ...

    def get(self, request: str) -> RequestRow:
        """The row of a request. Raises NotFound."""
        ...

    def latest(self, limit: int = 50, before: datetime | None = None, release: Digest | None = None) -> tuple[RequestRow, ...]:
        """The newest rows, newest first; only those older than ``before``, only those that ``release`` answered."""
        ...

    def of_units(self, units: Collection[str]) -> tuple[str, ...]:
        """Ids of the requests that were answered for one of ``units``, sorted."""
        ...

    def forget(self, requests: Collection[str]) -> int:
        """Takes from these rows what stems from somebody's words, or tells whom they were answered for: ``unit``, ``sketch``,
        ``prediction``. The rows stay, for what they used up was used up. How many there are."""
        ...

    def purge(self, before: datetime, limit: int) -> int:
        """Deletes the ``limit`` oldest rows from before ``before``, with what was said of them, their places in the answer queue and their
        words; how many rows. What they used up stays counted."""
        ...

    def traffic(self, start: datetime, stop: datetime) -> tuple[Traffic, ...]:
        """What each release answered under each alias from ``start`` (inclusive) to ``stop`` (exclusive), by alias and release."""
        ...
