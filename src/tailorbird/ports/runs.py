"""Runs and their leased steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from tailorbird.domain.run import Run, RunState, Step
from tailorbird.domain.value import Digest


class RunRepository(Protocol):
    """One tenant's runs."""

    def add(self, run: Run) -> Run:
        """Adds ``run``; where one with its fingerprint exists, returns that one instead."""
        ...

    def get(self, run: str) -> Run:
        """The run whose id is, or starts with, ``run``. Raises NotFound (also when a prefix is ambiguous)."""
        ...

    def all(self) -> tuple[Run, ...]:
        """All runs, newest first."""
        ...

    def set_state(self, run: str, state: RunState) -> None:
        """Moves a run to ``state``."""
        ...


class StepRepository(Protocol):
    """One tenant's steps. A step is leased by one worker at a time, and its result is taken from that worker alone."""

    def enqueue(self, run: str, name: str) -> Step:
        """Adds a ready step at the end of its run; a step of that name that exists is returned as it is."""
        ...

    def lease(self, run: str, owner: str, ttl: timedelta) -> Step | None:
        """Leases the first step of ``run`` that is ready, or leased with an expired lease. ``None`` when there is none."""
        ...

    def heartbeat(self, step: Step, ttl: timedelta) -> None:
        """Extends the lease. Raises LeaseLost when ``step.owner`` no longer holds it."""
        ...

    def complete(self, step: Step, result: Digest, seconds: float) -> Step:
        """Marks done with the digest of its result. Raises LeaseLost."""
        ...

    def fail(self, step: Step, error: str) -> Step:
        """Marks failed with an error code and message. Raises LeaseLost."""
        ...

    def release(self, step: Step) -> None:
        """Gives a held step back as ready (a clean interruption). Does nothing when the lease is lost."""
        ...

    def of(self, run: str) -> tuple[Step, ...]:
        """All steps of a run, in order."""
        ...

    def retry(self, run: str) -> None:
        """Makes the failed steps of a run ready again."""
        ...
