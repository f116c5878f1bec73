"""Releases, approvals and looks at sealed tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tailorbird.domain.release import Approval, Look, Release, ReleaseState
from tailorbird.domain.value import Digest


class ReleaseRepository(Protocol):
    """One tenant's releases."""

    def add(self, release: Release) -> None:
        """Adds a release; one of that digest that exists is left as it is. Raises Corrupt when digest, content and dossier do not fit."""
        ...

    def get(self, digest: str) -> Release:
        """The release whose digest is, or starts with, ``digest`` (with or without ``sha256:``). Raises NotFound."""
        ...

    def all(self) -> tuple[Release, ...]:
        """All releases, newest first."""
        ...

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Release, ...]:
        """At most ``limit`` releases, newest first, leaving out the ``skip`` newest."""
        ...

    def count(self) -> int:
        """How many releases there are."""
        ...

    def move(self, digest: Digest, before: ReleaseState, after: ReleaseState) -> None:
        """Moves a release from ``before`` to ``after``. Raises NotFound, and Conflict when it is no longer in ``before``."""
        ...

    def approve(self, approval: Approval, instead: Approval | None = None) -> None:
        """Adds an approval or rejection, in place of ``instead``, an earlier one by the same identity. Raises NotFound, and Conflict when
        this identity has already decided otherwise."""
        ...


class LookRepository(Protocol):
    """How often an objective's sealed test was opened."""

    def add(self, objective_name: str, snapshot: Digest, candidate: Digest, question: Digest | None = None) -> int:
        """Records a look and returns its number (1-based) for this objective; the same look again returns its first number.

        ``question`` is the digest of what is asked of the candidate (KPIs, targets, the metric of comparison): asked anything else it is
        another look."""
        ...

    def count(self, objective_name: str) -> int:
        """How many looks were taken."""
        ...

    def all(self) -> tuple[Look, ...]:
        """All looks of the tenant, those of an objective in their order."""
        ...


class SplitRepository(Protocol):
    """Which split (and group) a row of an objective was first given; rows already split never move."""

    def assigned(self, objective_name: str) -> dict[Digest, tuple[str, str]]:
        """Row id to (split, group)."""
        ...

    def remember(self, objective_name: str, assigned: dict[Digest, tuple[str, str]]) -> None:
        """Records rows that are new; known rows are left as they are."""
        ...

    def forget(self, rows: Iterable[Digest]) -> None:
        """Deletes these rows, of whatever objective."""
        ...
