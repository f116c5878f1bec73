"""Repositories of what tenants' traffic leaves: requests, feedback, kept words, signals, and rollouts with the counts for their guards."""

from __future__ import annotations

import base64
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Label,
    Row,
    Select,
    Subquery,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from tailorbird.crypto.sealed_stream import seal_bytes, unseal_bytes
from tailorbird.domain.deployment import FALLBACK, FORGOTTEN, OPEN_ROW, SHADOW, SHADOW_ENDING, RequestRow, Traffic
from tailorbird.domain.errors import Conflict, Corrupt, NotFound
from tailorbird.domain.feedback import Feedback, FeedbackKind, KeptWords, Marks, Review, Signal
from tailorbird.domain.rollout import ENDED, LEAST_MONEY, LEAST_MS, OPEN, ArmTally, Rollout, Votes
from tailorbird.domain.value import Digest
from tailorbird.ledger.repository import (
    Repository,
    insert_all_new,
    portions,
    row_of,
    select_fields,
    text_of,
    upsert,
    value_from,
    value_from_text,
)
from tailorbird.ledger.tables import ONLY_LABELS, contents, feedback, requests, reviews, rollouts, signals, unreadable

#: How many rows are held at once where a window of requests is read as a stream.
_LATENCIES_AT_ONCE = 10_000
#: By how much the clocks of two machines may differ: one answered, the other took the feedback.
_CLOCKS_DIFFER = timedelta(hours=1)


class Requests(Repository):
    """One tenant's request rows."""

    def add(self, rows: Sequence[RequestRow]) -> None:
        """Adds rows in one statement. Raises Conflict when the id of one is taken."""
        self._own(*rows)
        if rows:
            self._connection.execute(insert(requests), [row.model_dump() for row in rows])

    def settle(self, row: RequestRow) -> bool:
        """Writes ``row`` in place of the open one of its id; False where none is open, or its person was forgotten meanwhile."""
        self._own(row)
        opened = self._here(requests, requests.c.id == row.id, requests.c.outcome == OPEN_ROW, requests.c.unit != FORGOTTEN)
        return self._run(update(requests).where(opened).values(row.model_dump())) == 1

    def get(self, request: str) -> RequestRow:
        """The row of a request. Raises NotFound."""
        found = self._one(RequestRow, self._rows(requests, RequestRow, requests.c.id == request))
        if found is None:
            raise _no_request(request, self._tenant)
        return found

    def latest(self, limit: int = 50, before: datetime | None = None, release: Digest | None = None) -> tuple[RequestRow, ...]:
        """The newest rows, newest first; only those older than ``before``, only those that ``release`` answered."""
        which = [] if before is None else [requests.c.at < before]
        which += [] if release is None else [requests.c.release == release]
        newest = self._rows(requests, RequestRow, *which).order_by(requests.c.at.desc(), requests.c.id.desc())
        return self._many(RequestRow, newest.limit(limit))

    def of_units(self, units: Collection[str]) -> tuple[str, ...]:
        """Ids of the requests that were answered for one of ``units``, sorted."""
        of_units = (self._here(requests, requests.c.unit.in_(some)) for some in portions(units))
        return tuple(sorted(id_ for here in of_units for id_ in self._texts(requests.c.id, here)))

    def forget(self, named: Collection[str]) -> int:
        """Takes unit, sketch and prediction from these rows; how many there are."""
        whose = case((requests.c.unit == "", ""), else_=FORGOTTEN)
        blank = update(requests).where(self._here(requests)).values(unit=whose, sketch="", prediction=None)
        return self._run_on(lambda some: blank.where(requests.c.id.in_(some)), named)

    def purge(self, before: datetime, limit: int) -> int:
        """Deletes the ``limit`` oldest rows from before ``before``, with what hangs on them; how many rows."""
        old = select(requests.c.id).where(self._here(requests, requests.c.at < before))
        named = self._connection.scalars(old.order_by(requests.c.at, requests.c.id).limit(limit)).all()
        for some in portions(named):
            for table in (feedback, reviews, contents):
                self._run(delete(table).where(self._here(table, table.c.request.in_(some))))
            self._run(delete(requests).where(self._here(requests, requests.c.id.in_(some))))
        return len(named)

    def traffic(self, start: datetime, stop: datetime) -> tuple[Traffic, ...]:
        """Traffic of each release under each alias from ``start`` (inclusive) to ``stop`` (exclusive), by alias and release.

        Latencies are exact nearest-rank percentiles over the requests that were not refused: a refusal takes no time, and many of them
        would hide a slow model. They are 0 where everything was refused.
        """
        window = self._here(requests, requests.c.at >= start, requests.c.at < stop)
        # Sorted here, eight bytes a request: a database takes three times as long to rank them.
        waited = requests.c.outcome.not_in(("refused", OPEN_ROW))
        query = select(requests.c.alias, requests.c.release, requests.c.latency_ms).where(window, waited)
        latencies: defaultdict[tuple[str, Digest | None], array[float]] = defaultdict(lambda: array("d"))
        with self._connection.execute(query.execution_options(yield_per=_LATENCIES_AT_ONCE)) as rows:
            for alias, release, latency in rows:
                latencies[alias, release].append(latency)
        found = []
        # The fields of ``Traffic`` that are counts, sums and ends, for each release and alias.
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
        for row in sorted(
            self._connection.execute(select(*columns).where(window).group_by(requests.c.release, requests.c.alias)),
            key=lambda row: (row.alias, row.release or ""),
        ):
            ordered = sorted(latencies[row.alias, row.release]) or [0.0]
            ranked = {"latency_p50_ms": ordered[_rank(len(ordered), 1, 2)], "latency_p95_ms": ordered[_rank(len(ordered), 19, 20)]}
            found.append(value_from(Traffic, ranked | dict(row._mapping)))
        return tuple(found)


def _no_request(request: str, tenant: str) -> NotFound:
    return NotFound(f"no request {request} in {tenant}", "take the id from the response's header")


def _rank(count: int, share: int, of: int) -> int:
    """The least index such that at least ``share / of`` of ``count`` values lie at or below it."""
    return -(-count * share // of) - 1


class Signals(Repository):
    """One tenant's readings of production."""

    def add(self, readings: Sequence[Signal]) -> None:
        """Adds readings in one statement."""
        self._own(*readings)
        if readings:
            first = self._connection.execute(select(self._next(signals))).scalar_one()
            rows = [row_of(signals, reading, number=number) for number, reading in enumerate(readings, first)]
            self._connection.execute(insert(signals), rows)

    def latest(self, limit: int = 100, objective: str | None = None) -> tuple[Signal, ...]:
        """The newest readings, newest first; only those of ``objective``, where given."""
        which = () if objective is None else (signals.c.objective == objective,)
        return self._many(Signal, self._rows(signals, Signal, *which).order_by(signals.c.number.desc()).limit(limit))


#: Joins feedback with the request that it is about.
_ANSWERED = and_(requests.c.tenant == feedback.c.tenant, requests.c.id == feedback.c.request)
_IS_OPEN = reviews.c.state == "open"


class FeedbackBook(Repository):
    """One tenant's feedback."""

    def put(self, said: Feedback) -> None:
        """Adds feedback; of one request, kind and source the latest counts. Raises NotFound when there is no such request."""
        self._own(said)
        if not self._count(requests, requests.c.id == said.request):
            raise _no_request(said.request, self._tenant)
        upsert(self._connection, feedback, [said.model_dump()], replaced=("value", "score", "at"))

    def of(self, request: str) -> tuple[Feedback, ...]:
        """Feedback on a request, oldest first."""
        return self._many(Feedback, self._rows(feedback, Feedback, feedback.c.request == request).order_by(feedback.c.at))

    def marks(self, release: Digest, since: datetime) -> tuple[Marks, ...]:
        """Scored feedback at or after ``since`` on answers of ``release``, by kind."""
        scored = select(feedback.c.kind, func.count().label("n"), func.avg(feedback.c.score).label("mean")).join(requests, _ANSWERED)
        here = self._here(feedback, requests.c.release == release, feedback.c.at >= since, feedback.c.score.is_not(None))
        return self._many(Marks, scored.where(here).group_by(feedback.c.kind).order_by(feedback.c.kind))

    def count(self, releases: Collection[Digest]) -> int:
        """Number of feedback entries on answers of ``releases``."""
        given = select(func.count()).select_from(feedback).join(requests, _ANSWERED).where(self._here(feedback))
        return sum(self._connection.execute(given.where(requests.c.release.in_(some))).scalar_one() for some in portions(releases))

    def labels(self, after: str, limit: int) -> tuple[Feedback, ...]:
        """Labels that were given, by request: those of the ``limit`` first requests after ``after``."""
        labelled = (self._here(feedback), text(ONLY_LABELS), feedback.c.request > after)
        first = select(feedback.c.request).where(*labelled).distinct().order_by(feedback.c.request).limit(limit)
        asked = select_fields(feedback, Feedback).where(*labelled, feedback.c.request.in_(first.scalar_subquery()))
        return self._many(Feedback, asked.order_by(feedback.c.request, feedback.c.source))

    def forget(self, named: Collection[str]) -> tuple[str, ...]:
        """Empties the labels that were given to these requests; ids of those that had any."""
        found: set[str] = set()
        for some in portions(named):
            labels = self._here(feedback, feedback.c.kind == FeedbackKind.LABEL.value, feedback.c.request.in_(some))
            found |= set(self._texts(feedback.c.request, labels, feedback.c.value != ""))
            self._run(update(feedback).where(labels).values(value=""))
        return tuple(sorted(found))


class Reviews(Repository):
    """One tenant's queue of answers that wait for people."""

    def add(self, items: Sequence[Review]) -> None:
        """Adds items; one that is there stays as it is."""
        self._own(*items)
        insert_all_new(self._connection, reviews, [item.model_dump() for item in items])

    def get(self, request: str) -> Review:
        """The item of a request. Raises NotFound."""
        found = self._one(Review, self._rows(reviews, Review, reviews.c.request == request))
        if found is None:
            raise NotFound(f"the answer {request} is not in the queue", "list it with: tailorbird label list", code="review_missing")
        return found

    def waiting(self, limit: int = 50) -> tuple[Review, ...]:
        """Open items, oldest first."""
        mine = self._rows(reviews, Review, _IS_OPEN)
        return self._many(Review, mine.order_by(reviews.c.queued_at, reviews.c.request).limit(limit))

    def count(self) -> int:
        """Number of open items."""
        return self._count(reviews, _IS_OPEN)

    def replace(self, item: Review) -> None:
        """Writes a settled item over the open one. Raises Conflict when it is not open any more."""
        self._own(item)
        here = self._here(reviews, reviews.c.request == item.request, _IS_OPEN)
        if not self._run(update(reviews).where(here).values(item.model_dump())):
            raise Conflict(f"the answer {item.request} was reviewed meanwhile", "take the next one", code="review_settled")

    def forget(self, named: Collection[str]) -> tuple[str, ...]:
        """Drops what is open about these requests, and empties what people answered; ids of those that were in the queue."""
        found: set[str] = set()
        for some in portions(named):
            here = self._here(reviews, reviews.c.request.in_(some))
            found |= set(self._texts(reviews.c.request, here))
            self._run(update(reviews).where(here, _IS_OPEN).values(state="dropped"))
            self._run(update(reviews).where(here).values(label=None))
        return tuple(sorted(found))


class Contents(Repository):
    """One tenant's kept words: encrypted, each text for its request and its field, where ``key`` gives the key."""

    #: Gives the key of this transaction.
    key: Callable[[], bytes] | None = None

    def add(self, kept: Sequence[KeptWords]) -> None:
        """Keeps words of requests. Raises what the key service raises."""
        self._own(*kept)
        insert_all_new(self._connection, contents, [self._changed(one, _sealed_text).model_dump() for one in kept])

    def get(self, request: str) -> KeptWords | None:
        """Kept content of a request. Raises Corrupt."""
        found = self._one(KeptWords, self._rows(contents, KeptWords, contents.c.request == request))
        return found and self._changed(found, _plain_text)

    def page(self, after: str, limit: int) -> tuple[KeptWords, ...]:
        """Kept content by request: the first ``limit`` after ``after``. Raises Corrupt."""
        mine = self._rows(contents, KeptWords, contents.c.request > after)
        page = self._many(KeptWords, mine.order_by(contents.c.request).limit(limit))
        return tuple(self._changed(one, _plain_text) for one in page)

    def forget(self, named: Collection[str]) -> int:
        """Deletes what is kept of these requests; how many there were."""
        return self._run_on(lambda some: delete(contents).where(self._here(contents, contents.c.request.in_(some))), named)

    def purge(self, before: datetime) -> int:
        """Deletes what expired before; how many there were."""
        return self._run(delete(contents).where(self._here(contents, contents.c.expires_at <= before)))

    def _changed(self, one: KeptWords, change: Callable[[str, bytes, bytes], str]) -> KeptWords:
        """``one`` with each text sealed, or opened again."""
        if self.key is None:
            return one
        key = self.key()  # what its service raises is no fault of the words
        texts = {"text": one.text, "answer": one.answer}
        try:
            changed = {name: change(text, key, f"{one.tenant}/{one.request}/{name}".encode()) for name, text in texts.items()}
        except (Corrupt, ValueError):
            raise Corrupt(
                f"the kept words of request {one.request} were changed, or belong to another",
                "restore the record from a backup, or let them expire",
                code="words_corrupt",
            ) from None
        return one.model_copy(update=changed)


def _sealed_text(text: str, key: bytes, context: bytes) -> str:
    return base64.b64encode(seal_bytes(text.encode(), key, context)).decode()


def _plain_text(sealed: str, key: bytes, context: bytes) -> str:
    return unseal_bytes(base64.b64decode(sealed, validate=True), key, context).decode()


class Rollouts(Repository):
    """One tenant's rollouts."""

    def add(self, rollout: Rollout) -> None:
        """Adds a rollout. Raises Conflict when its alias has an open one."""
        self._own(rollout)
        if self.open(rollout.alias):
            raise Conflict(
                f"{rollout.tenant}/{rollout.alias} has a rollout that goes on",
                "end it first: tailorbird rollout list",
                code="rollout_open",
            )
        self._connection.execute(insert(rollouts).values(row_of(rollouts, rollout, body=text_of(rollout), number=self._next(rollouts))))
        self._changes.note(None, self.get(rollout.id))

    def get(self, rollout: str) -> Rollout:
        """The rollout whose id is, or starts with, ``rollout``. Raises NotFound."""
        found = self._made(self._bodies().where(rollouts.c.id.startswith(rollout, autoescape=True)).limit(2))
        if len(found) != 1:
            raise NotFound(f"no rollout {rollout} in {self._tenant}", "list them with: tailorbird rollout list")
        return found[0]

    def all(self) -> tuple[Rollout, ...]:
        """All rollouts, oldest first."""
        return self._made(self._bodies().order_by(rollouts.c.number))

    def latest(self, limit: int = 50) -> tuple[Rollout, ...]:
        """The newest rollouts, newest first."""
        return self._made(self._bodies().order_by(rollouts.c.number.desc()).limit(limit))

    def open(self, alias: str | None = None) -> tuple[Rollout, ...]:
        """Rollouts that go on, oldest first; only that of ``alias``, where given."""
        query = self._bodies().where(rollouts.c.state.in_([state.value for state in OPEN])).order_by(rollouts.c.number)
        return self._made(query if alias is None else query.where(rollouts.c.alias == alias))

    def replace(self, rollout: Rollout) -> None:
        """Writes the next revision. Raises Conflict when the stored one is not the revision before."""
        self._own(rollout)
        before = (rollouts.c.id == rollout.id, rollouts.c.revision == rollout.revision - 1)
        replaced = self._made(self._bodies().where(*before))
        if not replaced:
            raise Conflict("the rollout has moved meanwhile", "look where it stands: tailorbird rollout show", code="alias_moved")
        self._run(update(rollouts).where(self._here(rollouts, *before)).values(row_of(rollouts, rollout, body=text_of(rollout))))
        self._changes.note(replaced[0], self.get(rollout.id))

    def tallies(self, alias: str, since_version: int, start: datetime, last_version: int | None = None) -> tuple[ArmTally, ...]:
        """Counts of each release under each version of the alias from ``since_version`` to ``last_version``, in requests at or after
        ``start``; beside them, with ``shadow``, those of both releases in requests that were mirrored."""

        def window(rows: FromClause) -> ColumnElement[bool]:
            of_alias = (rows.c.tenant == self._tenant, rows.c.alias == alias, rows.c.version >= since_version, rows.c.at >= start)
            counts = (rows.c.release.is_not(None), rows.c.arm != FALLBACK, rows.c.unit != FORGOTTEN)
            return and_(*of_alias, *counts, *_up_to(last_version, rows))

        units = _by_unit(and_(window(requests), requests.c.arm != SHADOW), self._given_since(start))
        # Of both rows of a pair, so that PostgreSQL reads neither side whole.
        pairs = self._connection.execute(_paired(and_(window(requests), window(_ORIGINAL))))
        found = [_tally(row) for row in self._connection.execute(_counts(units))]
        return (*found, *(tally for row in pairs for tally in _pair_tallies(row)))

    def votes(
        self, alias: str, release: str, since_version: int = 0, start: datetime | None = None, last_version: int | None = None
    ) -> tuple[Votes, ...]:
        """Users' feedback on answers of ``release``, by kind."""
        answered = self._here(requests, requests.c.release == release)
        first = self._connection.scalar(select(func.min(requests.c.at)).where(answered))
        if first is None:
            return ()
        # Both bounds hold anyhow where nobody asks for them. With them PostgreSQL knows which of its indexes says most.
        since = first if start is None else max(first, start)
        window = [answered, requests.c.at >= since, requests.c.alias == alias, requests.c.arm != SHADOW, requests.c.unit != FORGOTTEN]
        window += [self._given_since(since), *_up_to(last_version)]
        if since_version:
            window.append(requests.c.version >= since_version)
        return tuple(_votes_in(row) for row in self._connection.execute(_votes(and_(*window))))

    def _given_since(self, answered: datetime) -> ColumnElement[bool]:
        """Feedback on answers from ``answered`` on, none of which is older than they are: else all feedback is read."""
        return self._here(feedback, feedback.c.at >= answered - _CLOCKS_DIFFER)

    def _bodies(self) -> Select[Any]:
        return select(rollouts).where(self._here(rollouts))

    def _made(self, query: Select[Any]) -> tuple[Rollout, ...]:
        """The rollouts of some rows. Raises Corrupt for one that is found by other words than it says."""
        found = []
        for row in self._connection.execute(query):
            rollout = value_from_text(Rollout, row.body)
            if any(row._mapping[name] != getattr(rollout, name) for name in ("id", "alias", "state", "revision")):
                raise unreadable(Rollout.__name__)
            found.append(rollout)
        return tuple(found)


def _up_to(last_version: int | None, rows: FromClause = requests) -> tuple[ColumnElement[bool], ...]:
    return () if last_version is None else (rows.c.version <= last_version,)


def _by_unit(window: ColumnElement[bool], said: ColumnElement[bool]) -> Subquery:
    """A row for each unit under each version and release: whether anything happened to it at all, and its means. ``said`` bounds the
    feedback that is read."""
    unit = case((requests.c.unit == "", requests.c.id), else_=requests.c.unit)
    keys = {"version": requests.c.version, "release": requests.c.release, "unit": unit}
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
    with_feedback = select(*named, func.avg(feedback.c.score).label("score")).select_from(requests.join(feedback, _ANSWERED))
    answers = with_feedback.where(window, said).group_by(requests.c.id, *keys.values()).subquery()
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
    kinds = feedback.c.kind.in_(list(_METRICS))
    answer = select(feedback.c.kind, unit, requests.c.id, func.avg(_GOOD).label("score")).select_from(requests.join(feedback, _ANSWERED))
    answers = answer.where(window, kinds).group_by(feedback.c.kind, unit, requests.c.id).subquery()
    users = select(answers.c.kind, func.count().label("said"), func.avg(answers.c.score).label("score"))
    by_user = users.group_by(answers.c.kind, answers.c.unit).subquery()
    said, total = func.sum(by_user.c.said).label("said"), func.sum(by_user.c.score).label("total")
    summed = select(by_user.c.kind, said, func.count().label("units"), total)
    return summed.group_by(by_user.c.kind).order_by(by_user.c.kind)


def _votes_in(row: Row[Any]) -> Votes:
    counts = {"said": int(row.said), "units": int(row.units), "total": float(row.total)}
    return value_from(Votes, {"metric": _METRICS[row.kind]} | counts)


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


def _paired(window: ColumnElement[bool]) -> Select[Any]:
    """Counts of the mirrored requests in the window beside those of the requests that they mirror, where both ended. Of a unit the first
    pair counts in which one release alone had the event; at one time both ways, none does."""
    original = _ORIGINAL
    its_id = func.substr(requests.c.id, 1, func.length(requests.c.id) - len(SHADOW_ENDING))
    both = requests.join(original, and_(original.c.tenant == requests.c.tenant, original.c.id == its_id))
    ended = and_(requests.c.arm == SHADOW, *(rows.c.outcome.in_(ENDED) for rows in (requests, original)))
    unit = case((requests.c.unit == "", original.c.id), else_=requests.c.unit)
    keys = {"version": requests.c.version, "release": requests.c.release, "before": original.c.release}
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
    fields = dict(row._mapping)
    alike = {"version": fields["version"], "shadow": True}
    alike |= {"units": int(fields["units"]), "requests": int(fields["requests"]), "ended": int(fields["requests"])}
    counts = [f"{name}{which}" for name in _RATES for which in ("", "_alone")]
    old = alike | {"release": fields["before"]} | {name: int(fields[f"{name}_before"]) for name in counts}
    new = alike | {"release": fields["release"]} | {name: int(fields[name]) for name in (*counts, "compared", "agreed")}
    return value_from(ArmTally, old), value_from(ArmTally, new)


def _counts(units: Subquery) -> Select[Any]:
    groups = (units.c.version, units.c.release)
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
    fields = dict(row._mapping)
    sums = {
        name: {"n": fields.pop(f"{name}_n"), "total": fields.pop(f"{name}_total") or 0.0, "squares": fields.pop(f"{name}_squares") or 0.0}
        for name in ("latency", "cost", "feedback")
    }
    counts = {name: int(v) if name != "release" else v for name, v in fields.items()}
    return value_from(ArmTally, {"shadow": False} | counts | sums)
