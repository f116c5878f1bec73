"""Runs, their leased steps, and the queue of both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from support.doubles.ledger.label_reviews import MODEL_REVIEWS, is_free
from support.doubles.ledger.tables import Repository, Table, Transaction, contradiction, stored
from tailorbird.crypto.anchored_rows import RowGroup, run_group
from tailorbird.domain.errors import Conflict, LeaseLost, NotFound
from tailorbird.domain.label_review import ModelReview
from tailorbird.domain.run import LONGEST_LEASE, WORKED, Failure, Run, RunState, Step, StepProgress, StepState
from tailorbird.domain.value import Digest
from tailorbird.ports.clock import Clock

RUNS: Table[str, Run] = Table("runs")


@dataclass(frozen=True)
class StepRow:
    """A step, when its lease was given, and how far the last of those that died in it had come."""

    step: Step
    leased_at: datetime | None = None
    reached: int = 0


#: Steps by run and name.
STEPS: Table[tuple[str, str], StepRow] = Table("steps")

_NO_ERROR: dict[str, object] = {"error": None, "message": None, "hint": None}


class MemoryRuns(Repository):
    """Implements ``RunRepository``."""

    def add(self, run: Run) -> Run:
        """Adds ``run``, or returns the one that has its fingerprint. Raises Conflict when only the id is taken."""
        self._own(run.tenant)
        rows = self._change(RUNS)
        same = next((one for one in rows.values() if one.fingerprint == run.fingerprint), None)
        if same is None and run.id in rows:
            raise Conflict(f"another run has the id {run.id}", "give the run an id of its own", code="run_id_taken")
        if same is None:
            same = rows[run.id] = stored(run)
            self._note(None, run_group(same, ()))
        return same

    def get(self, run: str) -> Run:
        """The run whose id is, or alone starts with, ``run``. Raises NotFound."""
        rows = self._rows(RUNS)
        found = [one for one in rows.values() if one.id.startswith(run)] if run else []
        if not found:
            raise self._missing(run)
        if len(found) > 1 and run not in rows:
            raise NotFound(f"more than one run begins with {run}", "give more letters of its id", code="run_ambiguous")
        return rows.get(run, found[0])

    def all(self) -> tuple[Run, ...]:
        """All runs, newest first."""
        return tuple(reversed(self._rows(RUNS).values()))  # type: ignore[call-overload]

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs, newest first, leaving out the ``skip`` newest."""
        return self.all()[skip : skip + limit]

    def newest_by_objective(self) -> tuple[Run, ...]:
        """The newest run of each objective, by the objective's name."""
        newest = {run.objective_name: run for run in self._rows(RUNS).values()}
        return tuple(newest[name] for name in sorted(newest))

    def in_states(self, states: Collection[RunState], limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs in one of ``states``, newest first, leaving out the ``skip`` newest."""
        return tuple(run for run in self.all() if run.state in states)[skip : skip + limit]

    def count(self) -> int:
        """How many runs there are."""
        return len(self._rows(RUNS))

    def set_state(self, run: str, state: RunState) -> None:
        """Moves a run to ``state``. Raises NotFound."""
        rows = self._change(RUNS)
        if run not in rows:
            raise self._missing(run)
        with self._transaction.unanchored.changing(lambda: _groups_of(self._transaction, self._tenant, run)):
            rows[run] = rows[run].model_copy(update={"state": state})

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each run and its steps."""
        yield from (group for run in self.all() for group in _groups_of(self._transaction, self._tenant, run.id))

    def _missing(self, run: str) -> NotFound:
        return NotFound(f"no run {run} in {self._tenant}", "list them with: tailorbird runs list", code="run_missing")


class MemorySteps(Repository):
    """Implements ``StepRepository``."""

    def __init__(self, transaction: Transaction, tenant: str, clock: Clock) -> None:
        super().__init__(transaction, tenant)
        self._clock = clock

    def enqueue(self, run: str, name: str) -> Step:
        """Adds a ready step at the end of ``run``, or returns the step of that name. Raises Conflict when there is no such run."""
        rows = self._change(STEPS)
        if run not in self._rows(RUNS):
            raise contradiction()
        step = Step(run=run, tenant=self._tenant, name=name, position=len(self.of(run)) + 1)
        return rows.setdefault((run, name), StepRow(step)).step

    def lease(self, run: str, owner: str, ttl: timedelta) -> Step | None:
        """Leases the first step that is ready, or whose lease has expired; None when there is none."""
        now = self._clock.now()
        first = next((step for step in self.of(run) if step.state is StepState.READY or _is_expired(step, now)), None)
        if first is None:
            return None
        row = _with_death(self._rows(STEPS)[run, first.name], ttl)
        taken = {"state": StepState.LEASED, "owner": owner, "lease_until": now + ttl, "attempts": first.attempts + 1}
        return self._write(StepRow(row.step.model_copy(update=taken), now, row.reached))

    def heartbeat(self, step: Step, ttl: timedelta, progress: StepProgress | None = None) -> None:
        """Extends the lease and, where given, notes how far the step is. Raises LeaseLost."""
        told: dict[str, object] = {} if progress is None else {"progress": progress}
        self._change_held(step, 0.0, {"lease_until": self._clock.now() + ttl, **told})

    def complete(self, step: Step, result: Digest, seconds: float) -> Step:
        """Marks done, in time or late, as long as nobody has taken the lease over. Raises LeaseLost."""
        return self._change_held(step, seconds, {"state": StepState.DONE, "result": result, "lease_until": None, **_NO_ERROR})

    def fail(self, step: Step, failure: Failure, seconds: float = 0.0) -> Step:
        """Marks failed, and keeps why. Raises LeaseLost."""
        told = {"error": failure.code, "message": failure.message, "hint": failure.hint}
        return self._change_held(step, seconds, {"state": StepState.FAILED, "lease_until": None, **told})

    def release(self, step: Step, seconds: float = 0.0) -> None:
        """Gives a held step back; does nothing when the lease is lost."""
        self._change(STEPS)
        if self._held(step) is not None:
            self._change_held(step, seconds, {"state": StepState.READY, "owner": None, "lease_until": None})

    def pay(self, step: Step, money: float) -> None:
        """Adds to what the step has paid, whoever holds it by now."""
        self._own(step.tenant)
        row = self._change(STEPS)[step.run, step.name]
        self._write(replace(row, step=row.step.model_copy(update={"paid": row.step.paid + money})))

    def of(self, run: str) -> tuple[Step, ...]:
        """All steps of a run, in order."""
        return tuple(row.step for (of, _), row in self._rows(STEPS).items() if of == run)

    def retry(self, run: str, done: str = "") -> int:
        """Makes the failed steps of a run ready again, and its last step, where it is called ``done`` and is done; how many they are."""
        rows, steps = self._change(STEPS), self.of(run)
        unwanted = [step for step in steps[-1:] if step.name == done and step.state is StepState.DONE]
        chosen = [step for step in steps if step.state is StepState.FAILED] + unwanted
        again = {"state": StepState.READY, "owner": None, "result": None, "deaths": 0, **_NO_ERROR}
        with self._changing(run):
            for step in chosen:
                rows[run, step.name] = StepRow(step.model_copy(update=again), rows[run, step.name].leased_at)
        return len(chosen)

    def _change_held(self, step: Step, seconds: float, changes: Mapping[str, object]) -> Step:
        self._change(STEPS)
        held = self._held(step)
        if held is None:
            raise LeaseLost(
                f"the step {step.name} of run {step.run} is no longer held by {step.owner}",
                "nothing is to be done: whoever holds it now finishes it",
            )
        changed = held.step.model_copy(update={"seconds": held.step.seconds + seconds, **changes})
        return self._write(replace(held, step=changed))

    def _held(self, step: Step) -> StepRow | None:
        """The row of ``step`` while the lease it was given with is the current one."""
        row = self._rows(STEPS).get((step.run, step.name))
        if row is None or step.tenant != self._tenant or row.step.state is not StepState.LEASED:
            return None
        return row if (row.step.owner, row.step.attempts) == (step.owner, step.attempts) else None

    def _write(self, row: StepRow) -> Step:
        step = stored(row.step)
        with self._changing(step.run):
            self._change(STEPS)[step.run, step.name] = replace(row, step=step)
        return step

    def _changing(self, run: str) -> AbstractContextManager[None]:
        return self._transaction.unanchored.changing(lambda: _groups_of(self._transaction, self._tenant, run))


class MemoryQueue(Repository):
    """Implements ``WorkQueue``."""

    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        super().__init__(transaction)
        self._clock = clock

    def waiting(self, limit: int = 20) -> tuple[Run, ...]:
        """Active and planning runs of any tenant none of whose steps is held under a lease that has not expired, oldest first."""
        now, found = self._clock.now(), list[Run]()
        for tenant, rows in self._transaction.every(RUNS):
            steps = [row.step for row in self._transaction.rows(STEPS, tenant).values()]
            held = {step.run for step in steps if step.state is StepState.LEASED and not _is_expired(step, now)}
            found += [run for run in rows.values() if run.state in (RunState.ACTIVE, RunState.PLANNING) and run.id not in held]
        return tuple(sorted(found, key=lambda run: (run.created_at, run.tenant))[:limit])

    def judging(self, limit: int = 20) -> tuple[tuple[str, ModelReview], ...]:
        """Reviews by judge models of any tenant that wait and that nobody holds, oldest first, each with its tenant."""
        now = self._clock.now()
        rows = [(tenant, row) for tenant, rows in self._transaction.every(MODEL_REVIEWS) for row in rows.values()]
        free = [(tenant, row.review) for tenant, row in rows if is_free(row, now)]
        return tuple(sorted(free, key=lambda found: (found[1].asked_at, found[0]))[:limit])


def _groups_of(transaction: Transaction, tenant: str, run: str) -> tuple[RowGroup, ...]:
    """What is anchored of one run; nothing where there is none."""
    found = transaction.rows(RUNS, tenant).get(run)
    steps = [row.step for (of, _), row in transaction.rows(STEPS, tenant).items() if of == run]
    return () if found is None else (run_group(found, steps),)


def _is_expired(step: Step, now: datetime) -> bool:
    """True for a leased step whose lease has run out, or goes on for longer than any is given: its clock was set back."""
    return step.state is StepState.LEASED and (step.lease_until is None or not now < step.lease_until <= now + LONGEST_LEASE)


def _with_death(row: StepRow, ttl: timedelta) -> StepRow:
    """The row with what a lease that has run out says of its holder: it died in the middle, unless it had hardly begun."""
    step, since = row.step, row.leased_at
    if step.state is not StepState.LEASED or since is None or step.lease_until is None or step.lease_until - ttl - since < WORKED:
        return row
    came = step.progress.done if step.progress else 0
    if came > row.reached:
        return replace(row, step=step.model_copy(update={"deaths": 1}), reached=came)
    return replace(row, step=step.model_copy(update={"deaths": step.deaths + 1}))
