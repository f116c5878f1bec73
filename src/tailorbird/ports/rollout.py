"""Rollouts, and what is counted while they go on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from tailorbird.domain.rollout import ArmTally, Rollout, Votes


class RolloutRepository(Protocol):
    """One tenant's rollouts."""

    def add(self, rollout: Rollout) -> None:
        """Adds a rollout. Raises Conflict when its alias has an open one."""
        ...

    def get(self, rollout: str) -> Rollout:
        """The rollout whose id is, or starts with, ``rollout``. Raises NotFound."""
        ...

    def latest(self, limit: int = 50) -> tuple[Rollout, ...]:
        """The newest rollouts, newest first."""
        ...

    def open(self, alias: str | None = None) -> tuple[Rollout, ...]:
        """Rollouts that go on, oldest first; only that of ``alias``, where given."""
        ...

    def replace(self, rollout: Rollout) -> None:
        """Writes the next revision. Raises Conflict when the stored one is not the revision before."""
        ...

    def tallies(
        self,
        alias: str,
        since_version: int,
        start: datetime,
        by: Literal["channel", "language", "length"] | None = None,
        last_version: int | None = None,
    ) -> tuple[ArmTally, ...]:
        """What each release did under each version of the alias ``tenant/name`` from ``since_version`` on, up to ``last_version`` where
        given, in requests at or after ``start``; divided by a segment, where given. What the release before answered in place of a hosted
        model counts for no arm, and what was asked for people who were erased counts for none: which requests were one user's is unknown.
        """
        ...

    def votes(
        self, alias: str, release: str, since_version: int = 0, start: datetime | None = None, last_version: int | None = None
    ) -> tuple[Votes, ...]:
        """What users of the alias ``tenant/name`` said of the answers that they got from ``release`` under its versions from
        ``since_version`` on, up to ``last_version`` where given, by kind: an answer counts once however many spoke of it, and so does a
        user; one who was erased does not."""
        ...
