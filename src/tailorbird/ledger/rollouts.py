"""Repository of rollouts with their newest revision, and the counts for their guards."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Label,
    Row,
    Select,
    Subquery,
    and_,
    case,
    func,
    insert,
    literal,
    select,
    update,
)

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.domain.deployment import FALLBACK, FORGOTTEN, SHADOW, SHADOW_ENDING
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import FeedbackKind
from tailorbird.domain.rollout import ENDED, LEAST_MONEY, LEAST_MS, OPEN, ArmTally, Rollout, Votes
from tailorbird.ledger.row_mapping import next_number, own, text_of, value_from, value_from_text
from tailorbird.ledger.tables import feedback, requests, rollouts

Segmented = Literal["channel", "language", "length"]

#: By how much the clocks of two machines may differ: one answered, the other took what was said of it.
_CLOCKS_DIFFER = timedelta(hours=1)


class Rollouts:
    """Implements ``RolloutRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, rollout: Rollout) -> None:
        """Adds a rollout. Raises Conflict when its alias has an open one."""
        own(self._tenant, rollout.tenant)
        if self.open(rollout.alias):
            raise Conflict(
                f"{rollout.tenant}/{rollout.alias} has a rollout that goes on",
                "end it first: tailorbird rollout list",
                code="rollout_open",
            )
        number = next_number(rollouts.c.number, rollouts.c.tenant == self._tenant)
        self._connection.execute(insert(rollouts).values(_row(rollout) | {"number": number}))
        self._changes.note(None, self.get(rollout.id))

    def get(self, rollout: str) -> Rollout:
        """The rollout whose id is, or starts with, ``rollout``. Raises NotFound."""
        found = self._connection.execute(self._bodies().where(rollouts.c.id.startswith(rollout, autoescape=True)).limit(2)).scalars().all()
        if len(found) != 1:
            raise NotFound(f"no rollout {rollout} in {self._tenant}", "list them with: tailorbird rollout list", code="rollout_missing")
        return value_from_text(Rollout, found[0])

    def all(self) -> tuple[Rollout, ...]:
        """All rollouts, oldest first."""
        every = self._bodies().order_by(rollouts.c.number)
        return tuple(value_from_text(Rollout, body) for body in self._connection.execute(every).scalars())

    def latest(self, limit: int = 50) -> tuple[Rollout, ...]:
        """The newest rollouts, newest first."""
        newest = self._bodies().order_by(rollouts.c.number.desc()).limit(limit)
        return tuple(value_from_text(Rollout, body) for body in self._connection.execute(newest).scalars())

    def open(self, alias: str | None = None) -> tuple[Rollout, ...]:
        """Rollouts that go on, oldest first; only that of ``alias``, where given."""
        asked = self._bodies().where(rollouts.c.state.in_([state.value for state in OPEN])).order_by(rollouts.c.number)
        asked = asked if alias is None else asked.where(rollouts.c.alias == alias)
        return tuple(value_from_text(Rollout, body) for body in self._connection.execute(asked).scalars())

    def replace(self, rollout: Rollout) -> None:
        """Writes the next revision. Raises Conflict when the stored one is not the revision before."""
        own(self._tenant, rollout.tenant)
        before = (rollouts.c.tenant == self._tenant, rollouts.c.id == rollout.id, rollouts.c.revision == rollout.revision - 1)
        stood = self._connection.scalar(select(rollouts.c.body).where(*before))
        if stood is None:
            raise Conflict("the rollout has moved meanwhile", "look where it stands: tailorbird rollout show", code="rollout_moved")
        self._connection.execute(update(rollouts).where(*before).values(_row(rollout)))
        self._changes.note(value_from_text(Rollout, stood), self.get(rollout.id))

    def tallies(
        self, alias: str, since_version: int, start: datetime, by: Segmented | None = None, last_version: int | None = None
    ) -> tuple[ArmTally, ...]:
        """Counts of each release under each version of the alias from ``since_version`` to ``last_version``, in requests at or after
        ``start``; beside them, with ``shadow``, those of both releases in requests that were mirrored."""

        def window(rows: FromClause) -> ColumnElement[bool]:
            of_alias = (rows.c.tenant == self._tenant, rows.c.alias == alias, rows.c.version >= since_version, rows.c.at >= start)
            counts = (rows.c.release.is_not(None), rows.c.arm != FALLBACK, rows.c.unit != FORGOTTEN)
            return and_(*of_alias, *counts, *_up_to(last_version, rows))

        units = _by_unit(and_(window(requests), requests.c.arm != SHADOW), _segment(by), self._said_since(start))
        # Of both rows of a pair, so that PostgreSQL reads neither side whole.
        pairs = self._connection.execute(_paired(and_(window(requests), window(_ORIGINAL)), _segment(by)))
        found = [_tally(row) for row in self._connection.execute(_counts(units))]
        return (*found, *(tally for row in pairs for tally in _pair_tallies(row)))

    def votes(
        self, alias: str, release: str, since_version: int = 0, start: datetime | None = None, last_version: int | None = None
    ) -> tuple[Votes, ...]:
        """Users' feedback on answers of ``release``, by kind."""
        answered = (requests.c.tenant == self._tenant, requests.c.release == release)
        first = self._connection.scalar(select(func.min(requests.c.at)).where(*answered))
        if first is None:
            return ()
        # Both bounds hold anyhow where nobody asks for them. With them PostgreSQL knows which of its indexes says most.
        since = first if start is None else max(first, start)
        window = [*answered, requests.c.at >= since, requests.c.alias == alias, requests.c.arm != SHADOW, requests.c.unit != FORGOTTEN]
        window += [self._said_since(since), *_up_to(last_version)]
        if since_version:
            window.append(requests.c.version >= since_version)
        return tuple(_votes_in(row) for row in self._connection.execute(_votes(and_(*window))))

    def _said_since(self, answered: datetime) -> ColumnElement[bool]:
        """What was said of answers from ``answered`` on: nothing was before they were given. Else all is read that was ever said."""
        return and_(feedback.c.tenant == self._tenant, feedback.c.at >= answered - _CLOCKS_DIFFER)

    def _bodies(self) -> Select[Any]:
        return select(rollouts.c.body).where(rollouts.c.tenant == self._tenant)


def _row(rollout: Rollout) -> dict[str, Any]:
    return {
        "tenant": rollout.tenant,
        "id": rollout.id,
        "alias": rollout.alias,
        "state": rollout.state.value,
        "revision": rollout.revision,
        "body": text_of(rollout),
    }


def _up_to(last_version: int | None, rows: FromClause = requests) -> tuple[ColumnElement[bool], ...]:
    return () if last_version is None else (rows.c.version <= last_version,)


def _segment(by: Segmented | None) -> ColumnElement[Any]:
    if by is None:
        return literal("")
    if by == "length":
        return case((requests.c.characters <= 100, "to 100"), (requests.c.characters <= 500, "101 to 500"), else_="over 500")
    return requests.c[by]


def _by_unit(window: ColumnElement[bool], segment: ColumnElement[Any], said: ColumnElement[bool]) -> Subquery:
    """A row for each unit under each version and release: whether anything happened to it at all, and its means. ``said`` bounds the
    feedback that is read."""
    unit = case((requests.c.unit == "", requests.c.id), else_=requests.c.unit)
    keys = {"version": requests.c.version, "release": requests.c.release, "segment": segment, "unit": unit}
    named = [column.label(name) for name, column in keys.items()]
    answered = requests.c.outcome == "ok"
    # Who gave up has waited at least as long: without them a release that hangs would seem as quick as its quickest answers.
    waited_for = requests.c.outcome.in_(("ok", "aborted"))
    least_cost = case((requests.c.cost > LEAST_MONEY, requests.c.cost), else_=LEAST_MONEY)
    least_ms = case((requests.c.latency_ms > LEAST_MS, requests.c.latency_ms), else_=LEAST_MS)
    columns = (
        func.count().label("requests"),
        *(_any(name, happened) for name, happened in _events(requests).items()),
        func.sum(case((requests.c.outcome.in_(ENDED), 1), else_=0)).label("ended"),
        func.avg(case((waited_for, func.ln(least_ms)))).label("latency"),
        func.avg(case((answered, func.ln(least_cost)))).label("cost"),
    )
    units = select(*named, *columns).where(window).group_by(*keys.values()).subquery()
    # Few answers are spoken of: looking each up that was given takes longer than all the rest.
    mine = and_(feedback.c.tenant == requests.c.tenant, feedback.c.request == requests.c.id)
    spoken_of = select(*named, func.avg(feedback.c.score).label("score")).select_from(requests.join(feedback, mine))
    answers = spoken_of.where(window, said).group_by(requests.c.id, *keys.values()).subquery()
    groups = [answers.c[name] for name in keys]
    means = select(*groups, func.avg(answers.c.score).label("feedback")).group_by(*groups).subquery()
    same = and_(*(units.c[name] == means.c[name] for name in keys))
    return select(units, means.c.feedback).select_from(units.outerjoin(means, same)).subquery()


#: The live KPIs by the kind of feedback that bears on them.
_METRICS = {FeedbackKind.THUMB.value: "thumbs", FeedbackKind.CSAT.value: "csat", FeedbackKind.OUTCOME.value: "outcome"}
#: A mark of satisfaction counts where it is 4 or 5 of 5.
_GOOD = case((feedback.c.kind == FeedbackKind.CSAT.value, case((feedback.c.score >= 0.75, 1.0), else_=0.0)), else_=feedback.c.score)


def _votes(window: ColumnElement[bool]) -> Select[Any]:
    """A mean for each answer of what was said of it, one for each user of these, and their sum."""
    unit = case((requests.c.unit == "", requests.c.id), else_=requests.c.unit).label("unit")
    mine = and_(feedback.c.tenant == requests.c.tenant, feedback.c.request == requests.c.id)
    kinds = feedback.c.kind.in_(list(_METRICS))
    answer = select(feedback.c.kind, unit, requests.c.id, func.avg(_GOOD).label("score")).select_from(requests.join(feedback, mine))
    answers = answer.where(window, kinds).group_by(feedback.c.kind, unit, requests.c.id).subquery()
    users = select(answers.c.kind, func.count().label("said"), func.avg(answers.c.score).label("score"))
    by_user = users.group_by(answers.c.kind, answers.c.unit).subquery()
    said, total = func.sum(by_user.c.said).label("said"), func.sum(by_user.c.score).label("total")
    summed = select(by_user.c.kind, said, func.count().label("units"), total)
    return summed.group_by(by_user.c.kind).order_by(by_user.c.kind)


def _votes_in(row: Row[Any]) -> Votes:
    told = dict(row._mapping)
    kind, total = _METRICS[told["kind"]], float(told["total"])
    return value_from(Votes, {"metric": kind, "said": int(told["said"]), "units": int(told["units"]), "total": total})


#: The requests that others mirror.
_ORIGINAL = requests.alias("original")
#: What guards on rates count.
_RATES: Final = ("errors", "refusals", "malformed")


def _events(rows: FromClause) -> dict[str, ColumnElement[bool]]:
    return {
        "errors": rows.c.outcome == "error",
        "refusals": (rows.c.outcome == "refused") | rows.c.referred,
        "malformed": rows.c.malformed.is_(True),
    }


def _any(name: str, happened: ColumnElement[bool]) -> ColumnElement[int]:
    return func.max(case((happened, 1), else_=0)).label(name)


def _paired(window: ColumnElement[bool], segment: ColumnElement[Any]) -> Select[Any]:
    """Counts of the mirrored requests in the window beside those of the requests that they mirror, where both ended. Of a unit the first
    pair counts in which one release alone had the event; at one time both ways, none does."""
    original = _ORIGINAL
    its_id = func.substr(requests.c.id, 1, func.length(requests.c.id) - len(SHADOW_ENDING))
    both = requests.join(original, and_(original.c.tenant == requests.c.tenant, original.c.id == its_id))
    ended = and_(requests.c.arm == SHADOW, *(rows.c.outcome.in_(ENDED) for rows in (requests, original)))
    unit = case((requests.c.unit == "", original.c.id), else_=requests.c.unit)
    keys = {"version": requests.c.version, "release": requests.c.release, "before": original.c.release, "segment": segment}
    columns: list[ColumnElement[Any]] = [
        func.count().label("requests"),
        func.sum(case((requests.c.agrees.is_not(None), 1), else_=0)).label("compared"),
        func.sum(case((requests.c.agrees.is_(True), 1), else_=0)).label("agreed"),
    ]
    of_new, of_old = _events(requests), _events(original)
    for name in _RATES:
        columns += [_any(name, of_new[name]), _any(f"{name}_before", of_old[name])]
        columns += [_first(f"{name}_alone", of_new[name] & ~of_old[name]), _first(f"{name}_alone_before", of_old[name] & ~of_new[name])]
    named = [column.label(name) for name, column in keys.items()]
    units = select(*named, *columns).select_from(both).where(window, ended).group_by(*keys.values(), unit).subquery()
    sums = [func.sum(units.c[name]).label(name) for name in ("requests", "compared", "agreed")]
    for name in _RATES:
        one, other = units.c[f"{name}_alone"], units.c[f"{name}_alone_before"]
        sums += [func.sum(units.c[each]).label(each) for each in (name, f"{name}_before")]
        sums += [_sooner(f"{name}_alone", one, other), _sooner(f"{name}_alone_before", other, one)]
    groups = [units.c[name] for name in keys]
    return select(*groups, func.count().label("units"), *sums).group_by(*groups).order_by(*groups)


def _first(name: str, happened: ColumnElement[bool]) -> Label[Any]:
    return func.min(case((happened, requests.c.at))).label(name)


def _sooner(name: str, one: ColumnElement[Any], other: ColumnElement[Any]) -> Label[Any]:
    """How many units have ``one`` before ``other``."""
    return func.sum(case((one.is_not(None) & (other.is_(None) | (one < other)), 1), else_=0)).label(name)


def _pair_tallies(row: Row[Any]) -> tuple[ArmTally, ArmTally]:
    """The release before, and the one in the shadow."""
    told = dict(row._mapping)
    alike = {"version": told["version"], "segment": told["segment"], "shadow": True}
    alike |= {"units": int(told["units"]), "requests": int(told["requests"]), "ended": int(told["requests"])}
    counts = [f"{name}{which}" for name in _RATES for which in ("", "_alone")]
    old = alike | {"release": told["before"]} | {name: int(told[f"{name}_before"]) for name in counts}
    new = alike | {"release": told["release"]} | {name: int(told[name]) for name in (*counts, "compared", "agreed")}
    return value_from(ArmTally, old), value_from(ArmTally, new)


def _counts(units: Subquery) -> Select[Any]:
    groups = (units.c.version, units.c.release, units.c.segment)
    counted = (func.sum(units.c[name]).label(name) for name in ("requests", *_RATES, "ended"))
    sums = [
        column
        for name in ("latency", "cost", "feedback")
        for column in (
            func.count(units.c[name]).label(f"{name}_n"),
            func.sum(units.c[name]).label(f"{name}_total"),
            func.sum(units.c[name] * units.c[name]).label(f"{name}_squares"),
        )
    ]
    return select(*groups, func.count().label("units"), *counted, *sums).group_by(*groups).order_by(*groups)


def _tally(row: Row[Any]) -> ArmTally:
    told = dict(row._mapping)
    sums = {
        name: {"n": told.pop(f"{name}_n"), "total": told.pop(f"{name}_total") or 0.0, "squares": told.pop(f"{name}_squares") or 0.0}
        for name in ("latency", "cost", "feedback")
    }
    counts = {name: int(v) if name not in ("release", "segment") else v for name, v in told.items()}
    return value_from(ArmTally, {"shadow": False} | counts | sums)
