"""Aliases with every version they had, the rows that requests leave, and readings of production."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from support.doubles.ledger.tables import SYSTEM, Repository, Table, contradiction, next_number, stored
from tailorbird.domain.deployment import FALLBACK, FORGOTTEN, OPEN_ROW, Alias, RequestRow, Stage, Traffic, alias_missing
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import Feedback, FeedbackKind, KeptWords, Review, Signal
from tailorbird.domain.rollout import OPEN, Rollout
from tailorbird.domain.value import Digest

#: Aliases by name, stage and version.
ALIASES: Table[tuple[str, Stage, int], Alias] = Table("aliases")
#: Above tenants: how often any alias was moved, and the number of the last move of each, by its path, and of the last that was none.
ALIAS_MOVES: Table[str, int] = Table("alias_moves")
MOVES, NO_MOVE = "count", "none"
ROLLOUTS: Table[str, Rollout] = Table("rollouts")
REQUESTS: Table[str, RequestRow] = Table("requests")
#: What hangs on requests: what was said of them by request, kind and source, the answer queue, and kept words.
FEEDBACK: Table[tuple[str, FeedbackKind, str], Feedback] = Table("feedback")
REVIEWS: Table[str, Review] = Table("reviews")
CONTENTS: Table[str, KeptWords] = Table("contents")
#: Readings by number.
SIGNALS: Table[int, Signal] = Table("signals")


class MemoryAliases(Repository):
    """Implements ``AliasRepository``."""

    def get(self, name: str, stage: Stage = "production") -> Alias:
        """The alias as it is now. Raises NotFound."""
        versions = self.history(name, stage)
        if not versions:
            raise alias_missing(self._tenant, name, {alias.name for alias in self.all(stage=stage)})
        return versions[-1]

    def all(self, only: Collection[str] | None = None, stage: Stage | None = "production") -> tuple[Alias, ...]:
        """All aliases of a stage (None: of both) as they are now, by name; only those named, where given."""
        newest = {(alias.name, alias.stage): alias for alias in self._rows(ALIASES).values()}
        return tuple(newest[key] for key in sorted(newest) if (only is None or key[0] in only) and stage in (None, key[1]))

    def put(self, alias: Alias) -> None:
        """Writes the next version. Raises Conflict when ``alias.version`` is not one above the stored one (1 for a new alias)."""
        self._own(alias.tenant)
        rows, versions = self._change(ALIASES), self.history(alias.name, alias.stage)
        if alias.version != len(versions) + 1:
            raise Conflict(
                f"the alias {alias.path} was moved meanwhile: version {alias.version} does not follow {len(versions)}",
                "look where it points now, then move it again",
                code="alias_version",
            )
        key = (alias.name, alias.stage, alias.version)
        rows[key] = stored(alias)
        self._note(versions[-1] if versions else None, rows[key])
        moves = self._transaction.change(ALIAS_MOVES, SYSTEM)
        moves[MOVES] = moves[alias.path] = moves.get(MOVES, 0) + 1

    def history(self, name: str, stage: Stage = "production") -> tuple[Alias, ...]:
        """Every version the alias had, oldest first."""
        return tuple(alias for alias in self._rows(ALIASES).values() if (alias.name, alias.stage) == (name, stage))


class MemoryAliasBook(Repository):
    """Implements ``AliasBook``."""

    def newest(self) -> dict[str, tuple[int, datetime | None]]:
        """Version and time of every alias's last move, by path, of every stage."""
        every = (alias for _, rows in self._transaction.every(ALIASES) for alias in rows.values())
        return {alias.path: (alias.version, alias.moved_at) for alias in every}

    def moved_since(self, moves: int) -> frozenset[str] | None:
        """Paths of the aliases that moved after so many moves; None where a tenant was removed since."""
        rows = self._rows(ALIAS_MOVES)
        if rows.get(NO_MOVE, 0) > moves or moves > rows.get(MOVES, 0):
            return None
        return frozenset(path for path, number in rows.items() if number > moves and "/" in path)

    def rolling_out(self) -> tuple[str, ...]:
        """Tenants that have a rollout which goes on, by name."""
        return tuple(
            tenant for tenant, rows in self._transaction.every(ROLLOUTS) if any(rollout.state in OPEN for rollout in rows.values())
        )


class MemoryRequests(Repository):
    """Implements ``RequestRepository``."""

    def add(self, rows: Sequence[RequestRow]) -> None:
        """Adds rows, all or none. Raises Conflict when the id of one is taken."""
        for row in rows:
            self._own(row.tenant)
        if rows:
            known = self._change(REQUESTS)
            added = {row.id: stored(row) for row in rows}
            if len(added) < len(rows) or added.keys() & known.keys():
                raise contradiction()
            known.update(added)

    def settle(self, row: RequestRow) -> bool:
        """Writes ``row`` in place of the open one of its id; False where none is open, or its person was forgotten meanwhile."""
        self._own(row.tenant)
        known = self._rows(REQUESTS).get(row.id)
        if known is None or known.outcome != OPEN_ROW or known.unit == FORGOTTEN:
            return False
        self._change(REQUESTS)[row.id] = stored(row)
        return True

    def get(self, request: str) -> RequestRow:
        """The row of a request. Raises NotFound."""
        row = self._rows(REQUESTS).get(request)
        if row is None:
            raise NotFound(f"no request {request} in {self._tenant}", "take the id from the response's header", code="request_missing")
        return row

    def latest(self, limit: int = 50, before: datetime | None = None, release: Digest | None = None) -> tuple[RequestRow, ...]:
        """The newest rows, newest first; only those older than ``before``, only those that ``release`` answered."""
        asked = [row for row in self._rows(REQUESTS).values() if before is None or row.at < before]
        asked = asked if release is None else [row for row in asked if row.release == release]
        return tuple(sorted(asked, key=lambda row: (row.at, row.id), reverse=True)[:limit])

    def of_units(self, units: Collection[str]) -> tuple[str, ...]:
        """Ids of the requests that were answered for one of ``units``, sorted."""
        return tuple(sorted(row.id for row in self._rows(REQUESTS).values() if row.unit in units))

    def forget(self, requests: Collection[str]) -> int:
        """Takes unit, sketch and prediction from these rows; how many there are."""
        rows = self._change(REQUESTS)
        named = [name for name in set(requests) if name in rows]
        for name in named:
            unit = FORGOTTEN if rows[name].unit else ""
            rows[name] = rows[name].model_copy(update={"unit": unit, "sketch": "", "prediction": None})
        return len(named)

    def purge(self, before: datetime, limit: int) -> int:
        """Deletes the ``limit`` oldest rows from before ``before``, with what hangs on them; how many rows."""
        old = sorted((row.at, row.id) for row in self._rows(REQUESTS).values() if row.at < before)[:limit]
        named = {request for _, request in old}
        for table in (FEEDBACK, REVIEWS, CONTENTS, REQUESTS):
            rows: dict[Any, Any] = self._change(table)
            for key in [key for key in rows if (key[0] if isinstance(key, tuple) else key) in named]:
                del rows[key]
        return len(named)

    def traffic(self, start: datetime, stop: datetime) -> tuple[Traffic, ...]:
        """What each release answered under each alias from ``start`` (inclusive) to ``stop`` (exclusive), by alias and release."""
        groups: defaultdict[tuple[str, str], list[RequestRow]] = defaultdict(list)
        for row in self._rows(REQUESTS).values():
            if start <= row.at < stop:
                groups[row.alias, row.release or ""].append(row)
        return tuple(_traffic(groups[key]) for key in sorted(groups))


class MemorySignals(Repository):
    """Implements ``SignalRepository``."""

    def add(self, signals: Sequence[Signal]) -> None:
        """Adds readings, all or none."""
        for reading in signals:
            self._own(reading.tenant)
        if signals:
            rows = self._change(SIGNALS)
            for reading in map(stored, signals):
                rows[next_number(rows)] = reading

    def latest(self, limit: int = 100, objective: str | None = None) -> tuple[Signal, ...]:
        """The newest readings, newest first; only those of ``objective``, where given."""
        asked = [one for one in self._rows(SIGNALS).values() if objective is None or one.objective == objective]
        return tuple(asked[::-1][:limit])


def _traffic(rows: Sequence[RequestRow]) -> Traffic:
    """Sums over the rows of one alias and release; latencies are exact nearest-rank percentiles of what was not refused."""
    latencies = sorted(row.latency_ms for row in rows if row.outcome not in ("refused", OPEN_ROW)) or [0.0]
    outcomes = [row.outcome for row in rows]
    return Traffic(
        release=rows[0].release,
        alias=rows[0].alias,
        requests=len(rows),
        ok=outcomes.count("ok"),
        errors=outcomes.count("error"),
        refused=outcomes.count("refused"),
        aborted=outcomes.count("aborted"),
        stood_in=sum(row.arm == FALLBACK for row in rows),
        latency_p50_ms=latencies[_rank(len(latencies), 1, 2)],
        latency_p95_ms=latencies[_rank(len(latencies), 19, 20)],
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost=sum(row.cost - (row.paid if row.arm == FALLBACK else 0.0) for row in rows),
        first=min(row.at for row in rows),
        last=max(row.at for row in rows),
    )


def _rank(count: int, share: int, of: int) -> int:
    """The least index such that at least ``share / of`` of ``count`` values lie at or below it."""
    return -(-count * share // of) - 1
