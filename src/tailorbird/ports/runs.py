"""Runs and their leased steps."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Protocol

from tailorbird.domain.label_review import ModelReview
from tailorbird.domain.run import Failure, Run, RunState, Step, StepProgress
from tailorbird.domain.value import Digest


class RunRepository(Protocol):
    """One tenant's runs."""

    def add(self, run: Run) -> Run:
        """Adds ``run``; where one with its fingerprint exists, returns that one instead. Raises Conflict when only the id is taken."""
        ...

    def get(self, run: str) -> Run:
        """The run whose id is, or starts with, ``run``. Raises NotFound (also when a prefix is ambiguous)."""
        ...

    def all(self) -> tuple[Run, ...]:
        """All runs, newest first."""
        ...

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs, newest first, leaving out the ``skip`` newest."""
        ...

    def newest_by_objective(self) -> tuple[Run, ...]:
        """The newest run of each objective, by the objective's name."""
        ...

    def in_states(self, states: Collection[RunState], limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs in one of ``states``, newest first, leaving out the ``skip`` newest."""
        ...

    def count(self) -> int:
        """How many runs there are."""
        ...

    def set_state(self, run: str, state: RunState) -> None:
        """Moves a run to ``state``. Raises NotFound."""
        ...


class PaidSteps(Protocol):
    """One tenant's steps, as what is paid for them is counted."""

    def pay(self, step: Step, money: float) -> None:
        """Adds ``money`` to what the step has paid, whoever holds it by now: what was paid was paid."""
        ...


class StepRepository(PaidSteps, Protocol):
    """One tenant's steps. A step is leased by one worker at a time, and its result is taken from that worker alone."""

    def enqueue(self, run: str, name: str) -> Step:
        """Adds a ready step at the end of its run; a step of that name that exists is returned as it is. Raises Conflict when there is no
        such run."""
        ...

    def lease(self, run: str, owner: str, ttl: timedelta) -> Step | None:
        """Leases the first step of ``run`` that is ready, or leased with an expired lease: then its holder counts among its ``deaths``,
        unless it had hardly begun. ``None`` when there is none."""
        ...

    def heartbeat(self, step: Step, ttl: timedelta, progress: StepProgress | None = None) -> None:
        """Extends the lease and, where given, notes how far the step is. Raises LeaseLost when ``step.owner`` no longer holds it."""
        ...

    def complete(self, step: Step, result: Digest, seconds: float) -> Step:
        """Marks done with the digest of its result; ``seconds`` are added to those of earlier attempts. Raises LeaseLost."""
        ...

    def fail(self, step: Step, failure: Failure, seconds: float = 0.0) -> Step:
        """Marks failed, with why, after ``seconds``. Raises LeaseLost."""
        ...

    def release(self, step: Step, seconds: float = 0.0) -> None:
        """Gives a held step back as ready (a clean interruption), after ``seconds``. Does nothing when the lease is lost."""
        ...

    def of(self, run: str) -> tuple[Step, ...]:
        """All steps of a run, in order."""
        ...

    def retry(self, run: str, done: str = "") -> int:
        """Makes the failed steps of a run ready again, and its last step, where it is called ``done`` and is done; how many they are."""
        ...


class WorkQueue(Protocol):
    """System repository: what waits for a worker, in whichever tenant."""

    def waiting(self, limit: int = 20) -> tuple[Run, ...]:
        """Active and planning runs none of whose steps is held under a lease that has not expired, oldest first."""
        ...

    def judging(self, limit: int = 20) -> tuple[tuple[str, ModelReview], ...]:
        """Reviews by judge models that wait and that nobody holds, oldest first, each with its tenant."""
        ...
