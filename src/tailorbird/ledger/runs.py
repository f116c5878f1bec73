"""Repositories of records by digest, of runs with their leased steps, and of what work on data leaves: decisions, looks, splits.

A lease is told from earlier ones by its owner and by the step's count of attempts, so a worker that was taken for dead cannot finish what
another (or its own next life, under the same name) holds now. Time decides only who may take a lease over: a holder may finish late. How
far a step came stays with it, however its lease ends. A clock that was set back does not make a lease last: one that seems to go on for
longer than any is given was given before, and has expired.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, String, Text, and_, delete, exists, func, insert, or_, select, update

from tailorbird.crypto.anchored_rows import RowGroup, decision_group, look_group, place_of_row, record_group, run_group, split_groups
from tailorbird.crypto.canonical_json import digest_bytes, plain_json
from tailorbird.domain.curation import Decision
from tailorbird.domain.errors import Conflict, Corrupt, LeaseLost, NotFound
from tailorbird.domain.release import Look
from tailorbird.domain.run import LONGEST_LEASE, WORKED, Failure, Run, RunState, Step, StepProgress, StepState
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.repository import (
    ROWS_AT_ONCE,
    Repository,
    begins,
    insert_all_new,
    insert_new,
    next_number,
    portions,
    row_of,
    select_fields,
    text_of,
    value_from,
    value_from_text,
)
from tailorbird.ledger.tables import (
    CanonicalJson,
    decisions,
    log_entries,
    looks,
    metadata,
    records,
    runs,
    splits,
    steps,
    tenants,
    unreadable,
)

_log = logging.getLogger("tailorbird.ledger")

V = TypeVar("V", bound=Value)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: What a step that did not fail says of an error.
_NO_ERROR: dict[str, object] = {"error": None, "message": None, "hint": None}


class Records(Repository):
    """One tenant's immutable values by digest. A record's kind is the name of its class."""

    def put(self, value: Value) -> Digest:
        """Stores ``value`` unless it is there already, and returns its digest."""
        kind, body = type(value).__name__, text_of(value)
        digest = digest_bytes(body.encode())
        number = self._next(records, records.c.kind == kind)
        row = {"tenant": self._tenant, "kind": kind, "digest": digest, "number": number, "body": body}
        if insert_new(self._connection, records, row):
            known = self._texts(records.c.digest, self._of(kind))
            before = record_group(self._tenant, kind, [other for other in known if other != digest])
            self._changes.note(before, record_group(self._tenant, kind, known))
        return digest

    def get(self, kind: type[V], digest: Digest) -> V:
        """The value named ``digest``. Raises NotFound, or Corrupt when the row does not have that digest any more."""
        body = self._connection.scalar(select(records.c.body).where(self._of(kind.__name__), records.c.digest == digest))
        if body is None:
            raise NotFound(
                f"no {kind.__name__} with the digest {digest} in {self._tenant}", "check the digest and the tenant", code="record_missing"
            )
        if digest_bytes(body.encode()) != digest:
            raise unreadable(kind.__name__)
        return value_from_text(kind, body)

    def forget(self, kind: type[Value], named: Iterable[Digest]) -> int:
        """Deletes records whose words must go; how many there were."""
        name = kind.__name__
        with self._changing(lambda: (record_group(self._tenant, name, self._texts(records.c.digest, self._of(name))),)):
            return self._run_on(lambda some: delete(records).where(self._of(name), records.c.digest.in_(some)), named)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each kind. Raises Corrupt where one does not say what its digest stands for."""
        found: dict[str, list[Digest]] = {}
        query = select(records.c.kind, records.c.digest, records.c.body).where(self._here(records))
        for kind, digest, body in self._connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
            if digest_bytes(body.encode()) != digest:
                raise unreadable(kind)
            found.setdefault(kind, []).append(digest)
        yield from (record_group(self._tenant, kind, digests) for kind, digests in found.items())

    def digests(self, kind: type[Value]) -> tuple[Digest, ...]:
        """Digests of all records of a kind, oldest first."""
        query = select(records.c.digest).where(self._of(kind.__name__)).order_by(records.c.number, records.c.digest)
        return tuple(self._connection.scalars(query))

    def _of(self, kind: str) -> ColumnElement[bool]:
        return self._here(records, records.c.kind == kind)


class References(Repository):
    """System repository: every digest that stands anywhere in the record."""

    def digests(self, of: str | None = None) -> Iterator[Digest]:
        """Digests in the rows of tenant ``of``, or of all tenants."""
        for table in metadata.sorted_tables:
            if "tenant" not in table.c or table is log_entries:  # anchored rows have no such column either
                continue
            columns = [column for column in table.c if isinstance(column.type, String | Text | CanonicalJson) and column.name != "tenant"]
            plain = [column.cast(Text) if isinstance(column.type, CanonicalJson) else column for column in columns]
            if not plain:
                continue
            query = select(*plain).where(or_(*(column.contains("sha256:") for column in plain)))
            query = query if of is None else query.where(table.c.tenant == of)
            for row in self._connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
                for value in row:
                    yield from _DIGEST.findall(value or "")


def is_held(now: datetime) -> ColumnElement[bool]:
    """True for a leased step whose lease has not expired at ``now``."""
    return and_(steps.c.lease_until > now, steps.c.lease_until <= now + LONGEST_LEASE)


class _OfRuns(Repository):
    """What runs and steps share: both are anchored as one group for each run."""

    def _changing_run(self, run: str) -> AbstractContextManager[None]:
        return self._changing(lambda: self._groups_of(run))

    def _groups_of(self, run: str) -> tuple[RowGroup, ...]:
        """What is anchored of one run; nothing where there is none."""
        found = self._one(Run, self._rows(runs, Run, runs.c.id == run))
        return () if found is None else (run_group(found, self._steps(run)),)

    def _steps(self, run: str) -> tuple[Step, ...]:
        return self._many(Step, self._rows(steps, Step, steps.c.run == run).order_by(steps.c.position))


class Runs(_OfRuns):
    """One tenant's runs."""

    def add(self, run: Run) -> Run:
        """Adds ``run``, or returns the one that has its fingerprint. Raises Conflict when only the id is taken."""
        if self._add(runs, run, number=self._next(runs)):
            self._changes.note(None, *self._groups_of(run.id))
        found = self._one(Run, self._rows(runs, Run, runs.c.fingerprint == run.fingerprint))
        if found is None:
            raise Conflict(f"another run has the id {run.id}", "give the run an id of its own")
        return found

    def get(self, run: str) -> Run:
        """The run whose id is, or alone starts with, ``run``. Raises NotFound."""
        matches = self._rows(runs, Run, begins(runs.c.id, run)).order_by(runs.c.id != run, runs.c.id).limit(2)
        found = self._many(Run, matches) if run else ()
        if not found:
            raise self._missing(run)
        if len(found) > 1 and found[0].id != run:
            raise NotFound(f"more than one run begins with {run}", "give more letters of its id")
        return found[0]

    def ids(self) -> frozenset[str]:
        """Ids of all runs."""
        return frozenset(self._connection.scalars(select(runs.c.id).where(self._here(runs))))

    def all(self) -> tuple[Run, ...]:
        """All runs, newest first."""
        return self._many(Run, self._newest_first())

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs, newest first, leaving out the ``skip`` newest."""
        return self._many(Run, self._newest_first().limit(limit).offset(skip))

    def newest_by_objective(self) -> tuple[Run, ...]:
        """The newest run of each objective, by the objective's name."""
        newest = select(func.max(runs.c.number)).where(self._here(runs)).group_by(runs.c.objective_name)
        return self._many(Run, self._rows(runs, Run, runs.c.number.in_(newest)).order_by(runs.c.objective_name))

    def in_states(self, states: Collection[RunState], limit: int = 50, skip: int = 0) -> tuple[Run, ...]:
        """At most ``limit`` runs in one of ``states``, newest first, leaving out the ``skip`` newest."""
        return self._many(Run, self._newest_first().where(runs.c.state.in_(states)).limit(limit).offset(skip))

    def count(self) -> int:
        """Number of runs."""
        return self._count(runs)

    def set_state(self, run: str, state: RunState) -> None:
        """Moves a run to ``state``. Raises NotFound."""
        with self._changing_run(run):
            if not self._run(update(runs).where(self._here(runs, runs.c.id == run)).values(state=state)):
                raise self._missing(run)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each run and its steps."""
        ordered = self._connection.execute(self._rows(steps, Step).order_by(steps.c.run, steps.c.position))
        of = {run: tuple(some) for run, some in groupby((value_from(Step, row) for row in ordered), key=lambda step: step.run)}
        yield from (run_group(run, of.get(run.id, ())) for run in self.all())

    def _missing(self, run: str) -> NotFound:
        return NotFound(f"no run {run} in {self._tenant}", "list them with: tailorbird runs list", code="run_missing")

    def _newest_first(self) -> Select[Any]:
        return self._rows(runs, Run).order_by(runs.c.number.desc(), runs.c.id)


class Steps(_OfRuns):
    """One tenant's steps. A step is leased by one worker at a time, and its result is taken from that worker alone."""

    def enqueue(self, run: str, name: str) -> Step:
        """Adds a ready step at the end of ``run``, or returns the step of that name. Raises Conflict when there is no such run."""
        position = next_number(steps.c.position, self._of(run))
        self._add(steps, Step(run=run, tenant=self._tenant, name=name, position=0), position=position, reached=0)
        return self._step(run, name)

    def lease(self, run: str, owner: str, ttl: timedelta) -> Step | None:
        """Leases the first step that is ready, or whose lease has expired; None when there is none."""
        now = self._clock.now()
        free = or_(steps.c.state == StepState.READY, and_(steps.c.state == StepState.LEASED, ~is_held(now)))
        first = select(steps).where(self._of(run), free).order_by(steps.c.position).limit(1).with_for_update(skip_locked=True)
        found = self._connection.execute(first).one_or_none()
        if found is None:
            return None
        taken = {"state": StepState.LEASED, "owner": owner, "lease_until": now + ttl, "leased_at": now, "attempts": steps.c.attempts + 1}
        self._run(update(steps).where(self._of(run), steps.c.name == found.name).values(taken | _deaths(found, ttl)))
        return self._step(run, found.name)

    def heartbeat(self, step: Step, ttl: timedelta, progress: StepProgress | None = None) -> None:
        """Extends the lease and, where given, notes how far the step is. Raises LeaseLost."""
        noted = {} if progress is None else {"progress": plain_json(progress)}
        self._write_held(step, {"lease_until": self._clock.now() + ttl, **noted})

    def complete(self, step: Step, result: Digest, seconds: float) -> Step:
        """Marks done, in time or late, as long as nobody has taken the lease over. Raises LeaseLost."""
        ended = {"state": StepState.DONE, "result": result, "seconds": steps.c.seconds + seconds, "lease_until": None}
        with self._changing_run(step.run):
            return self._write_held(step, ended | _NO_ERROR)

    def fail(self, step: Step, failure: Failure, seconds: float = 0.0) -> Step:
        """Marks failed, and keeps why. Raises LeaseLost."""
        why = {"error": failure.code, "message": failure.message, "hint": failure.hint}
        with self._changing_run(step.run):
            return self._write_held(step, {"state": StepState.FAILED, "seconds": steps.c.seconds + seconds, "lease_until": None, **why})

    def release(self, step: Step, seconds: float = 0.0) -> None:
        """Gives a held step back; does nothing when the lease is lost."""
        given_back = {"state": StepState.READY, "owner": None, "lease_until": None, "seconds": steps.c.seconds + seconds}
        with self._changing_run(step.run):
            self._run(update(steps).where(self._held(step)).values(given_back))

    def pay(self, step: Step, money: float) -> None:
        """Adds to what the step has paid, whoever holds it by now."""
        self._own(step)
        with self._changing_run(step.run):
            self._run(update(steps).where(self._of(step.run), steps.c.name == step.name).values(paid=steps.c.paid + money))

    def of(self, run: str) -> tuple[Step, ...]:
        """All steps of a run, in order."""
        return self._steps(run)

    def retry(self, run: str, done: str = "") -> int:
        """Makes the failed steps of a run ready again, and its last step, where it is called ``done`` and is done; how many they are."""
        last = self._connection.scalar(select(func.max(steps.c.position)).where(self._of(run)))
        unwanted = and_(steps.c.name == done, steps.c.state == StepState.DONE, steps.c.position == last)
        again = {"state": StepState.READY, "owner": None, "result": None, "deaths": 0, "reached": 0} | _NO_ERROR
        with self._changing_run(run):
            return self._run(update(steps).where(self._of(run), or_(steps.c.state == StepState.FAILED, unwanted)).values(again))

    def _write_held(self, step: Step, changes: dict[str, Any]) -> Step:
        if not self._run(update(steps).where(self._held(step)).values(changes)):
            raise LeaseLost(
                f"the step {step.name} of run {step.run} is no longer held by {step.owner}",
                "nothing is to be done: whoever holds it now finishes it",
            )
        return self._step(step.run, step.name)

    def _held(self, step: Step) -> ColumnElement[bool]:
        """True for the row of ``step`` while the lease it was given with is the current one."""
        lease = (steps.c.state == StepState.LEASED, steps.c.owner == step.owner, steps.c.attempts == step.attempts)
        return and_(steps.c.tenant == step.tenant, self._of(step.run), steps.c.name == step.name, *lease)

    def _step(self, run: str, name: str) -> Step:
        return value_from(Step, self._connection.execute(self._rows(steps, Step, steps.c.run == run, steps.c.name == name)).one())

    def _of(self, run: str) -> ColumnElement[bool]:
        return self._here(steps, steps.c.run == run)


def _deaths(found: Row[Any], ttl: timedelta) -> dict[str, int]:
    """What a lease that has run out says of its holder: it died in the middle of the step, unless it had hardly begun. One that had come
    further than those before it is the first of its kind."""
    until, since = found.lease_until, found.leased_at
    if found.state != StepState.LEASED or since is None or until is None or until - ttl - since < WORKED:
        return {}
    came = int((found.progress or {}).get("done", 0))
    return {"deaths": 1, "reached": came} if came > found.reached else {"deaths": found.deaths + 1}


class Queue(Repository):
    """System repository: what waits for a worker."""

    def waiting(self, limit: int = 20) -> tuple[Run, ...]:
        """Active and planning runs of any tenant none of whose steps is held under a lease that has not expired, oldest first. Where a run
        cannot be read, those of its tenant are left out.

        A run whose steps are all done, or that has none yet, waits too: for whoever finds out what comes next.
        """
        held = exists().where(
            steps.c.tenant == runs.c.tenant, steps.c.run == runs.c.id, steps.c.state == StepState.LEASED, is_held(self._clock.now())
        )
        open_runs = select_fields(runs, Run).where(runs.c.state.in_((RunState.ACTIVE, RunState.PLANNING)), ~held)
        oldest = open_runs.order_by(runs.c.created_at, runs.c.tenant, runs.c.number).limit(limit)
        try:
            return self._many(Run, oldest)
        except Corrupt:
            found: list[Run] = []
            for name in self._connection.scalars(select(tenants.c.name)).all():
                try:
                    found += self._many(Run, oldest.where(runs.c.tenant == name))
                except Corrupt:
                    _log.error("work of %s that waits cannot be read: run tailorbird audit verify", name)
            return tuple(found)


class Decisions(Repository):
    """One tenant's decisions about single rows."""

    def add(self, made: Sequence[Decision]) -> None:
        """Adds decisions in one statement."""
        if made:
            first = self._connection.execute(select(self._next(decisions))).scalar_one()
            rows = [row_of(decisions, each, tenant=self._tenant, number=number) for number, each in enumerate(made, first)]
            with self._changing_objectives({each.objective for each in made}):
                self._connection.execute(insert(decisions), rows)

    def of(self, objective: str) -> tuple[Decision, ...]:
        """The newest decision about each row of an objective, oldest first."""
        here = self._here(decisions, decisions.c.objective == objective)
        newest = select(func.max(decisions.c.number)).where(here).group_by(decisions.c.row)
        return self._many(Decision, self._rows(decisions, Decision, here, decisions.c.number.in_(newest)).order_by(decisions.c.number))

    def forget(self, rows: Iterable[Digest]) -> int:
        """Deletes what was decided about these rows."""
        parts = [self._here(decisions, decisions.c.row.in_(some)) for some in portions(rows)]
        with self._changing_objectives({name for here in parts for name in self._texts(decisions.c.objective, here)}):
            return sum(self._run(delete(decisions).where(here)) for here in parts)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored, objective by objective."""
        yield from self._groups(self._texts(decisions.c.objective, self._here(decisions)))

    def _groups(self, objectives: Iterable[str]) -> list[RowGroup]:
        return [decision_group(self._tenant, name, self.of(name)) for name in objectives]

    def _changing_objectives(self, objectives: Iterable[str]) -> AbstractContextManager[None]:
        names = sorted(objectives)
        return self._changing(lambda: self._groups(names))


class Looks(Repository):
    """How often an objective's sealed test was opened."""

    def add(self, objective_name: str, snapshot: Digest, candidate: Digest, question: Digest | None = None) -> int:
        """Records a look and returns its number for this objective; the same look again returns its first number."""
        objective = looks.c.objective_name == objective_name
        key = {"snapshot": snapshot, "candidate": candidate, "question": question or ""}
        look = {"tenant": self._tenant, "objective_name": objective_name, "number": self._next(looks, objective)} | key
        with self._changing(self.groups):
            insert_new(self._connection, looks, look)
        same = self._here(looks, objective, *(looks.c[name] == value for name, value in key.items()))
        return int(self._connection.execute(select(looks.c.number).where(same)).scalar_one())

    def count(self, objective_name: str) -> int:
        """Number of looks taken."""
        return self._count(looks, looks.c.objective_name == objective_name)

    def all(self) -> tuple[Look, ...]:
        """All looks, those of an objective in their order."""
        return self._many(Look, self._rows(looks, Look).order_by(looks.c.objective_name, looks.c.number))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield look_group(self._tenant, self.all())


class Splits(Repository):
    """Which split (and group) a row of an objective was first given; rows already split never move."""

    def assigned(self, objective_name: str, *which: ColumnElement[bool]) -> dict[Digest, tuple[str, str]]:
        """Row id to (split, group)."""
        query = select(splits.c.row_id, splits.c.split, splits.c.row_group)
        found = self._connection.execute(query.where(self._here(splits, splits.c.objective_name == objective_name, *which)))
        return {row: (split, group) for row, split, group in found}

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored, objective by objective."""
        for name in self._texts(splits.c.objective_name, self._here(splits)):
            yield from split_groups(self._tenant, name, self.assigned(name))

    def remember(self, objective_name: str, assigned: dict[Digest, tuple[str, str]]) -> None:
        """Records rows that are new; known rows are left as they are."""
        common = {"tenant": self._tenant, "objective_name": objective_name}
        rows = [common | {"row_id": row, "split": split, "row_group": group} for row, (split, group) in assigned.items()]
        with self._changing(lambda: self._groups_of(objective_name, assigned)):
            insert_all_new(self._connection, splits, rows)

    def forget(self, rows: Iterable[Digest]) -> None:
        """Deletes these rows, of whatever objective."""
        named = frozenset(rows)
        parts = [self._here(splits, splits.c.row_id.in_(some)) for some in portions(named)]
        names = sorted({name for here in parts for name in self._texts(splits.c.objective_name, here)})
        with self._changing(lambda: [group for name in names for group in self._groups_of(name, named)]):
            for here in parts:
                self._run(delete(splits).where(here))

    def _groups_of(self, objective_name: str, rows: Collection[Digest]) -> list[RowGroup]:
        """The groups of these rows, read whole. Each is a range of the primary key, so that the rows of the others are not read."""
        places, found = {place_of_row(row) for row in rows}, dict[Digest, tuple[str, str]]()
        for place in sorted(places):
            found |= self.assigned(objective_name, splits.c.row_id.between(f"sha256:{place}", f"sha256:{place}g"))
        return split_groups(self._tenant, objective_name, found, places)
