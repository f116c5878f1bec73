"""Repositories of runs and their leased steps.

A lease is told from earlier ones by its owner and by the step's count of attempts, so a worker that was taken for dead cannot finish what
another (or its own next life, under the same name) holds now. Time decides only who may take a lease over: a holder may finish late. How
far a step came stays with it, however its lease ends. A clock that was set back does not make a lease last: one that seems to go on for
longer than any is given was given before, and has expired.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, update

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, run_group
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import Conflict, LeaseLost, NotFound
from tailorbird.domain.run import LONGEST_LEASE, WORKED, Failure, Run, RunState, Step, StepProgress, StepState
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import begins, insert_new, next_number, own, select_fields, value_of
from tailorbird.ledger.tables import runs, steps
from tailorbird.ports.clock import Clock

#: What a step that did not fail says of an error.
_NO_ERROR: dict[str, object] = {"error": None, "message": None, "hint": None}


def is_held(now: datetime) -> ColumnElement[bool]:
    """True for a leased step whose lease has not expired at ``now``."""
    return and_(steps.c.lease_until > now, steps.c.lease_until <= now + LONGEST_LEASE)


class Runs:
    """Implements ``RunRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, run: Run) -> Run:
        """Adds ``run``, or returns the one that has its fingerprint. Raises Conflict when only the id is taken."""
        own(self._tenant, run.tenant)
        number = next_number(runs.c.number, runs.c.tenant == self._tenant)
        if insert_new(self._connection, runs, run.model_dump() | {"number": number}):
            self._changes.note(None, *_groups_of(self._connection, self._tenant, run.id))
        row = self._connection.execute(self._all().where(runs.c.fingerprint == run.fingerprint)).one_or_none()
        if row is None:
            raise Conflict(f"another run has the id {run.id}", "give the run an id of its own", code="run_id_taken")
        return value_of(Run, row)

    def get(self, run: str) -> Run:
        """The run whose id is, or alone starts with, ``run``. Raises NotFound."""
        matches = self._all().where(begins(runs.c.id, run)).order_by(runs.c.id != run, runs.c.id).limit(2)
        found = [value_of(Run, row) for row in self._connection.execute(matches)] if run else []
        if not found:
            raise NotFound(f"no run {run} in {self._tenant}", "list them with: tailorbird runs list", code="run_missing")
        if len(found) > 1 and found[0].id != run:
            raise NotFound(f"more than one run begins with {run}", "give more letters of its id", code="run_ambiguous")
        return found[0]

    def all(self) -> tuple[Run, ...]:
        """All runs, newest first."""
        return tuple(value_of(Run, row) for row in self._connection.execute(self._newest_first()))

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs, newest first, leaving out the ``skip`` newest."""
        return tuple(value_of(Run, row) for row in self._connection.execute(self._newest_first().limit(limit).offset(skip)))

    def newest_by_objective(self) -> tuple[Run, ...]:
        """The newest run of each objective, by the objective's name."""
        newest = select(func.max(runs.c.number)).where(runs.c.tenant == self._tenant).group_by(runs.c.objective_name)
        asked = self._all().where(runs.c.number.in_(newest)).order_by(runs.c.objective_name)
        return tuple(value_of(Run, row) for row in self._connection.execute(asked))

    def in_states(self, states: Collection[RunState], limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs in one of ``states``, newest first, leaving out the ``skip`` newest."""
        asked = self._newest_first().where(runs.c.state.in_(states)).limit(limit).offset(skip)
        return tuple(value_of(Run, row) for row in self._connection.execute(asked))

    def count(self) -> int:
        """Number of runs."""
        return int(self._connection.execute(select(func.count()).where(runs.c.tenant == self._tenant)).scalar_one())

    def set_state(self, run: str, state: RunState) -> None:
        """Moves a run to ``state``. Raises NotFound."""
        here = and_(runs.c.tenant == self._tenant, runs.c.id == run)
        with self._changes.changing(lambda: _groups_of(self._connection, self._tenant, run)):
            if not self._connection.execute(update(runs).where(here).values(state=state)).rowcount:
                raise NotFound(f"no run {run} in {self._tenant}", "list them with: tailorbird runs list", code="run_missing")

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each run and its steps."""
        asked = select_fields(steps, Step).where(steps.c.tenant == self._tenant).order_by(steps.c.run, steps.c.position)
        found = groupby((value_of(Step, row) for row in self._connection.execute(asked)), key=lambda step: step.run)
        of = {run: tuple(some) for run, some in found}
        yield from (run_group(run, of.get(run.id, ())) for run in self.all())

    def _all(self) -> Select[Any]:
        return select_fields(runs, Run).where(runs.c.tenant == self._tenant)

    def _newest_first(self) -> Select[Any]:
        return self._all().order_by(runs.c.number.desc(), runs.c.id)


class Steps:
    """Implements ``StepRepository``."""

    def __init__(self, connection: Connection, tenant: str, clock: Clock, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._clock = clock
        self._changes = changes or RowChanges()

    def enqueue(self, run: str, name: str) -> Step:
        """Adds a ready step at the end of ``run``, or returns the step of that name. Raises Conflict when there is no such run."""
        position = next_number(steps.c.position, *self._of(run))
        row = Step(run=run, tenant=self._tenant, name=name, position=0).model_dump() | {"position": position}
        insert_new(self._connection, steps, row)
        return self._step(run, name)

    def lease(self, run: str, owner: str, ttl: timedelta) -> Step | None:
        """Leases the first step that is ready, or whose lease has expired; None when there is none."""
        now = self._clock.now()
        free = or_(steps.c.state == StepState.READY, and_(steps.c.state == StepState.LEASED, ~is_held(now)))
        first = select(steps).where(*self._of(run), free).order_by(steps.c.position).limit(1).with_for_update(skip_locked=True)
        found = self._connection.execute(first).one_or_none()
        if found is None:
            return None
        taken = {"state": StepState.LEASED, "owner": owner, "lease_until": now + ttl, "leased_at": now, "attempts": steps.c.attempts + 1}
        self._connection.execute(update(steps).where(*self._of(run), steps.c.name == found.name).values(taken | _deaths(found, ttl)))
        return self._step(run, found.name)

    def heartbeat(self, step: Step, ttl: timedelta, progress: StepProgress | None = None) -> None:
        """Extends the lease and, where given, notes how far the step is. Raises LeaseLost."""
        told = {} if progress is None else {"progress": plain_json(progress)}
        self._write_held(step, {"lease_until": self._clock.now() + ttl, **told})

    def complete(self, step: Step, result: Digest, seconds: float) -> Step:
        """Marks done, in time or late, as long as nobody has taken the lease over. Raises LeaseLost."""
        ended = {"state": StepState.DONE, "result": result, "seconds": steps.c.seconds + seconds, "lease_until": None}
        return self._change_held(step, **ended, **_NO_ERROR)

    def fail(self, step: Step, failure: Failure, seconds: float = 0.0) -> Step:
        """Marks failed, and keeps why. Raises LeaseLost."""
        told = {"error": failure.code, "message": failure.message, "hint": failure.hint}
        return self._change_held(step, state=StepState.FAILED, seconds=steps.c.seconds + seconds, lease_until=None, **told)

    def release(self, step: Step, seconds: float = 0.0) -> None:
        """Gives a held step back; does nothing when the lease is lost."""
        given_back = {"state": StepState.READY, "owner": None, "lease_until": None, "seconds": steps.c.seconds + seconds}
        with self._changing(step.run):
            self._connection.execute(update(steps).where(self._held(step)).values(given_back))

    def pay(self, step: Step, money: float) -> None:
        """Adds to what the step has paid, whoever holds it by now."""
        own(self._tenant, step.tenant)
        named = (*self._of(step.run), steps.c.name == step.name)
        with self._changing(step.run):
            self._connection.execute(update(steps).where(*named).values(paid=steps.c.paid + money))

    def of(self, run: str) -> tuple[Step, ...]:
        """All steps of a run, in order."""
        rows = self._connection.execute(select_fields(steps, Step).where(*self._of(run)).order_by(steps.c.position))
        return tuple(value_of(Step, row) for row in rows)

    def retry(self, run: str, done: str = "") -> int:
        """Makes the failed steps of a run ready again, and its last step, where it is called ``done`` and is done; how many they are."""
        last = self._connection.scalar(select(func.max(steps.c.position)).where(*self._of(run)))
        unwanted = and_(steps.c.name == done, steps.c.state == StepState.DONE, steps.c.position == last)
        again = {"state": StepState.READY, "owner": None, "result": None, "deaths": 0, "reached": 0} | _NO_ERROR
        chosen = or_(steps.c.state == StepState.FAILED, unwanted)
        with self._changing(run):
            return self._connection.execute(update(steps).where(*self._of(run), chosen).values(again)).rowcount

    def _change_held(self, step: Step, **changes: object) -> Step:
        with self._changing(step.run):
            return self._write_held(step, changes)

    def _write_held(self, step: Step, changes: dict[str, object]) -> Step:
        if not self._connection.execute(update(steps).where(self._held(step)).values(changes)).rowcount:
            raise LeaseLost(
                f"the step {step.name} of run {step.run} is no longer held by {step.owner}",
                "nothing is to be done: whoever holds it now finishes it",
            )
        return self._step(step.run, step.name)

    def _changing(self, run: str) -> AbstractContextManager[None]:
        return self._changes.changing(lambda: _groups_of(self._connection, self._tenant, run))

    def _held(self, step: Step) -> ColumnElement[bool]:
        """True for the row of ``step`` while the lease it was given with is the current one."""
        lease = (steps.c.state == StepState.LEASED, steps.c.owner == step.owner, steps.c.attempts == step.attempts)
        return and_(steps.c.tenant == step.tenant, *self._of(step.run), steps.c.name == step.name, *lease)

    def _step(self, run: str, name: str) -> Step:
        return value_of(Step, self._connection.execute(select_fields(steps, Step).where(*self._of(run), steps.c.name == name)).one())

    def _of(self, run: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return steps.c.tenant == self._tenant, steps.c.run == run


def _groups_of(connection: Connection, tenant: str, run: str) -> tuple[RowGroup, ...]:
    """What is anchored of one run; nothing where there is none."""
    row = connection.execute(select_fields(runs, Run).where(runs.c.tenant == tenant, runs.c.id == run)).one_or_none()
    asked = select_fields(steps, Step).where(steps.c.tenant == tenant, steps.c.run == run).order_by(steps.c.position)
    return () if row is None else (run_group(value_of(Run, row), [value_of(Step, one) for one in connection.execute(asked)]),)


def _deaths(found: Row[Any], ttl: timedelta) -> dict[str, int]:
    """What a lease that has run out says of its holder: it died in the middle of the step, unless it had hardly begun. One that had come
    further than those before it is the first of its kind."""
    until, since = found.lease_until, found.leased_at
    if found.state != StepState.LEASED or since is None or until is None or until - ttl - since < WORKED:
        return {}
    came = int((found.progress or {}).get("done", 0))
    return {"deaths": 1, "reached": came} if came > found.reached else {"deaths": found.deaths + 1}
