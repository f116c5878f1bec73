"""Aliases with every version they had, request rows, and monitoring signals."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, insert, select, type_coerce, update

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.deployment import FALLBACK, FORGOTTEN, OPEN_ROW, Alias, RequestRow, Stage, Traffic, alias_missing, alias_path
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import Signal
from tailorbird.domain.rollout import OPEN
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import ReadableTime, insert_new, next_number, own, portions, select_fields, value_from, value_of
from tailorbird.ledger.tables import alias_moves, aliases, contents, feedback, requests, reviews, rollouts, signals


class Aliases:
    """Implements ``AliasRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def get(self, name: str, stage: Stage = "production") -> Alias:
        """The alias as it is now. Raises NotFound."""
        alias = self._current(name, stage)
        if alias is None:
            known = select(aliases.c.name).where(aliases.c.tenant == self._tenant, aliases.c.stage == stage).distinct()
            raise alias_missing(self._tenant, name, self._connection.scalars(known))
        return alias

    def all(self, only: Collection[str] | None = None, stage: Stage | None = "production") -> tuple[Alias, ...]:
        """All aliases of a stage (None: of both) as they are now, by name; only those named, where given."""
        rows = self._now(select_fields(aliases, Alias)).order_by(aliases.c.name, aliases.c.stage)
        rows = rows if stage is None else rows.where(aliases.c.stage == stage)
        chosen = rows if only is None else rows.where(aliases.c.name.in_(only))
        return tuple(value_of(Alias, row) for row in self._connection.execute(chosen))

    def put(self, alias: Alias) -> None:
        """Writes the next version. Raises Conflict when ``alias.version`` is not one above the stored one (1 for a new alias)."""
        own(self._tenant, alias.tenant)
        move = self._connection.scalar(update(alias_moves).values(count=alias_moves.c.count + 1).returning(alias_moves.c.count))
        row = plain_json(alias) | {"moved_at": alias.moved_at, "move": move}
        before = self._current(alias.name, alias.stage)
        version = before.version if before else 0
        if alias.version != version + 1 or not insert_new(self._connection, aliases, row):
            raise Conflict(
                f"the alias {alias.path} was moved meanwhile: version {alias.version} does not follow {version}",
                "look where it points now, then move it again",
                code="alias_version",
            )
        self._changes.note(before, self._current(alias.name, alias.stage))

    def history(self, name: str, stage: Stage = "production") -> tuple[Alias, ...]:
        """Every version the alias had, oldest first."""
        return tuple(value_of(Alias, row) for row in self._connection.execute(self._versions(name, stage).order_by(aliases.c.version)))

    def _now(self, rows: Select[Any]) -> Select[Any]:
        """Of ``rows`` over all versions those of the newest ones."""
        key = (aliases.c.name, aliases.c.stage)
        newest = select(*key, func.max(aliases.c.version).label("version")).where(aliases.c.tenant == self._tenant)
        current = newest.group_by(*key).subquery()
        matches = and_(*(aliases.c[name] == current.c[name] for name in ("name", "stage", "version")))
        return rows.join(current, matches).where(aliases.c.tenant == self._tenant)

    def _versions(self, name: str, stage: Stage) -> Select[Any]:
        return select_fields(aliases, Alias).where(aliases.c.tenant == self._tenant, aliases.c.name == name, aliases.c.stage == stage)

    def _current(self, name: str, stage: Stage) -> Alias | None:
        row = self._connection.execute(self._versions(name, stage).order_by(aliases.c.version.desc()).limit(1)).one_or_none()
        return value_of(Alias, row) if row else None


#: An alias, of all tenants.
_KEY = (aliases.c.tenant, aliases.c.name, aliases.c.stage)


class AllAliases:
    """Implements ``AliasBook``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self) -> dict[str, tuple[int, datetime | None]]:
        """Version and time of every alias's last move, by path, of every stage; None for a time that cannot be read."""
        last = select(*_KEY, func.max(aliases.c.version).label("version"))
        current = last.group_by(*_KEY).subquery()
        matches = and_(*(aliases.c[name] == current.c[name] for name in (*(column.name for column in _KEY), "version")))
        moved_at = type_coerce(aliases.c.moved_at, ReadableTime())
        rows = select(*_KEY, aliases.c.version, moved_at).join(current, matches)
        return {alias_path(*key): (version, at) for *key, version, at in self._connection.execute(rows)}

    def moved_since(self, moves: int) -> frozenset[str] | None:
        """Paths of the aliases that moved after so many moves; None where the versions do not account for every move since: a tenant was
        removed, an older version of tailorbird moved an alias, or the count is that of another record."""
        rows = self._connection.execute(select(*_KEY).where(aliases.c.move > moves)).all()
        if len(rows) != self._connection.execute(select(alias_moves.c.count)).scalar_one() - moves:
            return None
        return frozenset(alias_path(*key) for key in rows)

    def rolling_out(self) -> tuple[str, ...]:
        """Tenants that have a rollout which goes on, by name."""
        going_on = select(rollouts.c.tenant).where(rollouts.c.state.in_([state.value for state in OPEN])).distinct()
        return tuple(self._connection.scalars(going_on.order_by(rollouts.c.tenant)))


class Requests:
    """Implements ``RequestRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, rows: Sequence[RequestRow]) -> None:
        """Adds rows in one statement. Raises Conflict when the id of one is taken."""
        for row in rows:
            own(self._tenant, row.tenant)
        if rows:
            self._connection.execute(insert(requests), [row.model_dump() for row in rows])

    def settle(self, row: RequestRow) -> bool:
        """Writes ``row`` in place of the open one of its id; False where none is open, or its person was forgotten meanwhile."""
        own(self._tenant, row.tenant)
        opened = (requests.c.id == row.id, requests.c.outcome == OPEN_ROW, requests.c.unit != FORGOTTEN)
        written = update(requests).where(requests.c.tenant == self._tenant, *opened).values(row.model_dump())
        return self._connection.execute(written).rowcount == 1

    def get(self, request: str) -> RequestRow:
        """The row of a request. Raises NotFound."""
        row = self._connection.execute(self._all().where(requests.c.id == request)).one_or_none()
        if row is None:
            raise NotFound(f"no request {request} in {self._tenant}", "take the id from the response's header", code="request_missing")
        return value_of(RequestRow, row)

    def latest(self, limit: int = 50, before: datetime | None = None, release: Digest | None = None) -> tuple[RequestRow, ...]:
        """The newest rows, newest first; only those older than ``before``, only those that ``release`` answered."""
        asked = self._all() if before is None else self._all().where(requests.c.at < before)
        asked = asked if release is None else asked.where(requests.c.release == release)
        newest = asked.order_by(requests.c.at.desc(), requests.c.id.desc()).limit(limit)
        return tuple(value_of(RequestRow, row) for row in self._connection.execute(newest))

    def of_units(self, units: Collection[str]) -> tuple[str, ...]:
        """Ids of the requests that were answered for one of ``units``, sorted."""
        asked = select(requests.c.id).where(requests.c.tenant == self._tenant)
        return tuple(sorted(id_ for some in portions(units) for id_ in self._connection.scalars(asked.where(requests.c.unit.in_(some)))))

    def forget(self, named: Collection[str]) -> int:
        """Takes unit, sketch and prediction from these rows; how many there are."""
        whose = case((requests.c.unit == "", ""), else_=FORGOTTEN)
        blank = update(requests).where(requests.c.tenant == self._tenant).values(unit=whose, sketch="", prediction=None)
        return sum(self._connection.execute(blank.where(requests.c.id.in_(some))).rowcount for some in portions(named))

    def purge(self, before: datetime, limit: int) -> int:
        """Deletes the ``limit`` oldest rows from before ``before``, with what hangs on them; how many rows."""
        old = select(requests.c.id).where(requests.c.tenant == self._tenant, requests.c.at < before)
        named = self._connection.scalars(old.order_by(requests.c.at, requests.c.id).limit(limit)).all()
        for some in portions(named):
            for table in (feedback, reviews, contents):
                self._connection.execute(delete(table).where(table.c.tenant == self._tenant, table.c.request.in_(some)))
            self._connection.execute(delete(requests).where(requests.c.tenant == self._tenant, requests.c.id.in_(some)))
        return len(named)

    def traffic(self, start: datetime, stop: datetime) -> tuple[Traffic, ...]:
        """Traffic of each release under each alias from ``start`` (inclusive) to ``stop`` (exclusive), by alias and release.

        Latencies are exact nearest-rank percentiles over the requests that were not refused: a refusal takes no time, and many of them
        would hide a slow model. They are 0 where everything was refused.
        """
        window = (requests.c.tenant == self._tenant, requests.c.at >= start, requests.c.at < stop)
        latencies = self._latencies(window)
        sums = sorted(self._connection.execute(_sums(window)), key=lambda row: (row.alias, row.release or ""))
        return tuple(value_from(Traffic, _REFUSED | dict(row._mapping) | latencies.get((row.alias, row.release), {})) for row in sums)

    def _latencies(self, window: tuple[ColumnElement[bool], ...]) -> dict[tuple[str, Digest | None], dict[str, float]]:
        """The percentiles, by alias and release. Sorted here, eight bytes a request: a database takes three times as long to rank them."""
        waited = requests.c.outcome.not_in(("refused", OPEN_ROW))
        asked = select(requests.c.alias, requests.c.release, requests.c.latency_ms).where(*window, waited)
        found: defaultdict[tuple[str, Digest | None], array[float]] = defaultdict(lambda: array("d"))
        with self._connection.execute(asked.execution_options(yield_per=_ROWS_AT_ONCE)) as rows:
            for alias, release, latency in rows:
                found[alias, release].append(latency)
        return {alike: _percentiles(sorted(taken)) for alike, taken in found.items()}

    def _all(self) -> Select[Any]:
        return select_fields(requests, RequestRow).where(requests.c.tenant == self._tenant)


#: How many rows are held at once where a window is read as a stream.
_ROWS_AT_ONCE = 10_000
#: Latencies where everything was refused.
_REFUSED = {"latency_p50_ms": 0.0, "latency_p95_ms": 0.0}


def _sums(window: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """The fields of ``Traffic`` that are counts, sums and ends, for each release and alias."""
    outcomes = {"ok": "ok", "errors": "error", "refused": "refused", "aborted": "aborted"}
    columns = (
        requests.c.release,
        requests.c.alias,
        func.count().label("requests"),
        *(func.count().filter(requests.c.outcome == outcome).label(name) for name, outcome in outcomes.items()),
        func.count().filter(requests.c.arm == FALLBACK).label("stood_in"),
        *(func.sum(requests.c[name]).label(name) for name in ("prompt_tokens", "completion_tokens")),
        func.sum(case((requests.c.arm == FALLBACK, requests.c.cost - requests.c.paid), else_=requests.c.cost)).label("cost"),
        func.min(requests.c.at).label("first"),
        func.max(requests.c.at).label("last"),
    )
    return select(*columns).where(*window).group_by(requests.c.release, requests.c.alias)


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """By nearest rank, of latencies in ascending order."""
    return {"latency_p50_ms": latencies[_rank(len(latencies), 1, 2)], "latency_p95_ms": latencies[_rank(len(latencies), 19, 20)]}


def _rank(count: int, share: int, of: int) -> int:
    """The least index such that at least ``share / of`` of ``count`` values lie at or below it."""
    return -(-count * share // of) - 1


class Signals:
    """Implements ``SignalRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, readings: Sequence[Signal]) -> None:
        """Adds readings in one statement."""
        for reading in readings:
            own(self._tenant, reading.tenant)
        if readings:
            first = self._connection.execute(select(next_number(signals.c.number, signals.c.tenant == self._tenant))).scalar_one()
            rows = [reading.model_dump() | {"number": number} for number, reading in enumerate(readings, first)]
            self._connection.execute(insert(signals), rows)

    def latest(self, limit: int = 100, objective: str | None = None) -> tuple[Signal, ...]:
        """The newest readings, newest first; only those of ``objective``, where given."""
        asked = select_fields(signals, Signal).where(signals.c.tenant == self._tenant)
        asked = asked if objective is None else asked.where(signals.c.objective == objective)
        return tuple(value_of(Signal, row) for row in self._connection.execute(asked.order_by(signals.c.number.desc()).limit(limit)))
