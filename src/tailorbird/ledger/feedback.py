"""Repositories of feedback, of the answer queue, and of kept words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, delete, func, select, text, update

from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import Feedback, FeedbackKind, KeptWords, Marks, Review
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import insert_all_new, own, portions, select_fields, upsert, value_of
from tailorbird.ledger.tables import ONLY_LABELS, contents, feedback, requests, reviews


class FeedbackBook:
    """Implements ``FeedbackRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def put(self, said: Feedback) -> None:
        """Adds feedback; of one request, kind and source the latest counts. Raises NotFound when there is no such request."""
        own(self._tenant, said.tenant)
        known = select(requests.c.id).where(requests.c.tenant == self._tenant, requests.c.id == said.request)
        if self._connection.scalar(known) is None:
            raise NotFound(f"no request {said.request} in {self._tenant}", "take the id from the response's header", code="request_missing")
        upsert(self._connection, feedback, [said.model_dump() | {"kind": said.kind.value}], replaced=("value", "score", "at"))

    def of(self, request: str) -> tuple[Feedback, ...]:
        """Feedback on a request, oldest first."""
        mine = select_fields(feedback, Feedback).where(feedback.c.tenant == self._tenant, feedback.c.request == request)
        return tuple(value_of(Feedback, row) for row in self._connection.execute(mine.order_by(feedback.c.at)))

    def marks(self, release: Digest, since: datetime) -> tuple[Marks, ...]:
        """Scored feedback at or after ``since`` on answers of ``release``, by kind."""
        same = (requests.c.tenant == feedback.c.tenant) & (requests.c.id == feedback.c.request)
        said = select(feedback.c.kind, func.count().label("n"), func.avg(feedback.c.score).label("mean")).join(requests, same)
        here = (feedback.c.tenant == self._tenant, requests.c.release == release, feedback.c.at >= since, feedback.c.score.is_not(None))
        rows = self._connection.execute(said.where(*here).group_by(feedback.c.kind).order_by(feedback.c.kind))
        return tuple(value_of(Marks, row) for row in rows)

    def count(self, releases: Collection[Digest]) -> int:
        """Number of feedback entries on answers of ``releases``."""
        same = (requests.c.tenant == feedback.c.tenant) & (requests.c.id == feedback.c.request)
        said = select(func.count()).select_from(feedback).join(requests, same).where(feedback.c.tenant == self._tenant)
        return sum(self._connection.execute(said.where(requests.c.release.in_(some))).scalar_one() for some in portions(releases))

    def labels(self, after: str, limit: int) -> tuple[Feedback, ...]:
        """Labels that were given, by request: those of the ``limit`` first requests after ``after``."""
        labelled = (feedback.c.tenant == self._tenant, text(ONLY_LABELS), feedback.c.request > after)
        first = select(feedback.c.request).where(*labelled).distinct().order_by(feedback.c.request).limit(limit)
        asked = select_fields(feedback, Feedback).where(*labelled, feedback.c.request.in_(first.scalar_subquery()))
        return tuple(value_of(Feedback, row) for row in self._connection.execute(asked.order_by(feedback.c.request, feedback.c.source)))

    def forget(self, named: Collection[str]) -> tuple[str, ...]:
        """Empties the labels that were given to these requests; ids of those that had any."""
        found: set[str] = set()
        for some in portions(named):
            said = and_(feedback.c.tenant == self._tenant, feedback.c.kind == FeedbackKind.LABEL.value, feedback.c.request.in_(some))
            found |= set(self._connection.scalars(select(feedback.c.request).where(said, feedback.c.value != "")))
            self._connection.execute(update(feedback).where(said).values(value=""))
        return tuple(sorted(found))


class Reviews:
    """Implements ``ReviewRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, items: Sequence[Review]) -> None:
        """Adds items; one that is there stays as it is."""
        for item in items:
            own(self._tenant, item.tenant)
        insert_all_new(self._connection, reviews, [item.model_dump() | {"reason": item.reason.value} for item in items])

    def get(self, request: str) -> Review:
        """The item of a request. Raises NotFound."""
        mine = select_fields(reviews, Review).where(reviews.c.tenant == self._tenant, reviews.c.request == request)
        row = self._connection.execute(mine).one_or_none()
        if row is None:
            raise NotFound(f"the answer {request} is not in the queue", "list it with: tailorbird label list", code="review_missing")
        return value_of(Review, row)

    def waiting(self, limit: int = 50) -> tuple[Review, ...]:
        """Open items, oldest first."""
        mine = select_fields(reviews, Review).where(reviews.c.tenant == self._tenant, reviews.c.state == "open")
        rows = self._connection.execute(mine.order_by(reviews.c.queued_at, reviews.c.request).limit(limit))
        return tuple(value_of(Review, row) for row in rows)

    def count(self) -> int:
        """Number of open items."""
        open_ones = select(func.count()).select_from(reviews).where(reviews.c.tenant == self._tenant, reviews.c.state == "open")
        return int(self._connection.execute(open_ones).scalar_one())

    def replace(self, item: Review) -> None:
        """Writes a settled item over the open one. Raises Conflict when it is not open any more."""
        own(self._tenant, item.tenant)
        here = (reviews.c.tenant == self._tenant, reviews.c.request == item.request, reviews.c.state == "open")
        if not self._connection.execute(update(reviews).where(*here).values(item.model_dump() | {"reason": item.reason.value})).rowcount:
            raise Conflict(f"the answer {item.request} was reviewed meanwhile", "take the next one", code="review_settled")

    def forget(self, named: Collection[str]) -> tuple[str, ...]:
        """Drops what is open about these requests, and empties what people answered; ids of those that were in the queue."""
        found: set[str] = set()
        for some in portions(named):
            here = and_(reviews.c.tenant == self._tenant, reviews.c.request.in_(some))
            found |= set(self._connection.scalars(select(reviews.c.request).where(here)))
            self._connection.execute(update(reviews).where(here, reviews.c.state == "open").values(state="dropped"))
            self._connection.execute(update(reviews).where(here).values(label=None))
        return tuple(sorted(found))


class Contents:
    """Implements ``ContentRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, kept: Sequence[KeptWords]) -> None:
        """Keeps words of requests."""
        for one in kept:
            own(self._tenant, one.tenant)
        insert_all_new(self._connection, contents, [one.model_dump() for one in kept])

    def get(self, request: str) -> KeptWords | None:
        """Kept content of a request."""
        mine = select_fields(contents, KeptWords).where(contents.c.tenant == self._tenant, contents.c.request == request)
        row = self._connection.execute(mine).one_or_none()
        return value_of(KeptWords, row) if row else None

    def page(self, after: str, limit: int) -> tuple[KeptWords, ...]:
        """Kept content by request: the first ``limit`` after ``after``."""
        mine = select_fields(contents, KeptWords).where(contents.c.tenant == self._tenant, contents.c.request > after)
        return tuple(value_of(KeptWords, row) for row in self._connection.execute(mine.order_by(contents.c.request).limit(limit)))

    def forget(self, named: Collection[str]) -> int:
        """Deletes what is kept of these requests; how many there were."""
        mine = delete(contents).where(contents.c.tenant == self._tenant)
        return sum(self._connection.execute(mine.where(contents.c.request.in_(some))).rowcount for some in portions(named))

    def purge(self, before: datetime) -> int:
        """Deletes what expired before; how many there were."""
        expired = delete(contents).where(contents.c.tenant == self._tenant, contents.c.expires_at <= before)
        return self._connection.execute(expired).rowcount
