"""Feedback on answers, the queue of answers for people, and kept words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from statistics import fmean

from support.doubles.ledger.deployment import CONTENTS, FEEDBACK, REQUESTS, REVIEWS
from support.doubles.ledger.tables import Repository, contradiction, stored
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import Feedback, FeedbackKind, KeptWords, Marks, Review
from tailorbird.domain.value import Digest


class MemoryFeedback(Repository):
    """Implements ``FeedbackRepository``."""

    def put(self, feedback: Feedback) -> None:
        """Adds feedback; of one request, kind and source the latest counts. Raises NotFound when there is no such request."""
        self._own(feedback.tenant)
        if feedback.request not in self._rows(REQUESTS):
            raise NotFound(
                f"no request {feedback.request} in {self._tenant}", "take the id from the response's header", code="request_missing"
            )
        self._change(FEEDBACK)[feedback.request, feedback.kind, feedback.source] = stored(feedback)

    def of(self, request: str) -> tuple[Feedback, ...]:
        """What was said of a request, oldest first."""
        return tuple(sorted((said for said in self._rows(FEEDBACK).values() if said.request == request), key=lambda said: said.at))

    def marks(self, release: Digest, since: datetime) -> tuple[Marks, ...]:
        """What was said at or after ``since`` of answers of ``release``, by kind; only what has a score."""
        scores: defaultdict[FeedbackKind, list[float]] = defaultdict(list)
        for said in self._about({release}):
            if said.at >= since and said.score is not None:
                scores[said.kind].append(said.score)
        return tuple(Marks(kind=kind, n=len(scores[kind]), mean=fmean(scores[kind])) for kind in sorted(scores))

    def count(self, releases: Collection[Digest]) -> int:
        """How much was ever said of answers of ``releases``."""
        return sum(1 for _ in self._about(releases))

    def labels(self, after: str, limit: int) -> tuple[Feedback, ...]:
        """Labels that were given, by request: those of the ``limit`` first requests after ``after``."""
        labelled = [said for said in self._rows(FEEDBACK).values() if said.kind is FeedbackKind.LABEL and said.request > after]
        first = sorted({said.request for said in labelled})[:limit]
        return tuple(sorted((said for said in labelled if said.request in first), key=lambda said: (said.request, said.source)))

    def forget(self, requests: Collection[str]) -> tuple[str, ...]:
        """Empties the labels that were given to these requests; ids of those that had any."""
        rows, found = self._change(FEEDBACK), set()
        for key, said in rows.items():
            if said.kind is FeedbackKind.LABEL and said.request in requests and said.value:
                found.add(said.request)
                rows[key] = said.model_copy(update={"value": ""})
        return tuple(sorted(found))

    def _about(self, releases: Collection[Digest]) -> Iterator[Feedback]:
        requests = self._rows(REQUESTS)
        return (said for said in self._rows(FEEDBACK).values() if requests[said.request].release in releases)


class MemoryReviews(Repository):
    """Implements ``ReviewRepository``."""

    def add(self, reviews: Sequence[Review]) -> None:
        """Adds items; one that is there stays as it is. Raises Conflict when there is no such request."""
        for item in reviews:
            self._own(item.tenant)
        if reviews:
            rows = self._change(REVIEWS)
            if not {item.request for item in reviews} <= self._rows(REQUESTS).keys():
                raise contradiction()
            for item in reviews:
                rows.setdefault(item.request, stored(item))

    def get(self, request: str) -> Review:
        """The item of a request. Raises NotFound."""
        item = self._rows(REVIEWS).get(request)
        if item is None:
            raise NotFound(f"the answer {request} is not in the queue", "list it with: tailorbird label list", code="review_missing")
        return item

    def waiting(self, limit: int = 50) -> tuple[Review, ...]:
        """Open items, oldest first."""
        return tuple(sorted(self._open(), key=lambda item: (item.queued_at, item.request))[:limit])

    def count(self) -> int:
        """How many items are open."""
        return len(self._open())

    def replace(self, review: Review) -> None:
        """Writes a settled item over the open one. Raises Conflict when it is not open any more."""
        self._own(review.tenant)
        rows = self._change(REVIEWS)
        if review.request not in rows or rows[review.request].state != "open":
            raise Conflict(f"the answer {review.request} was reviewed meanwhile", "take the next one", code="review_settled")
        rows[review.request] = stored(review)

    def forget(self, requests: Collection[str]) -> tuple[str, ...]:
        """Drops what is open about these requests, and empties what people answered; ids of those that were in the queue."""
        rows = self._change(REVIEWS)
        found = sorted(set(requests) & rows.keys())
        for request in found:
            item = rows[request]
            rows[request] = item.model_copy(update={"state": "dropped" if item.state == "open" else item.state, "label": None})
        return tuple(found)

    def _open(self) -> list[Review]:
        return [item for item in self._rows(REVIEWS).values() if item.state == "open"]


class MemoryContents(Repository):
    """Implements ``ContentRepository``."""

    def add(self, contents: Sequence[KeptWords]) -> None:
        """Keeps words of requests. Raises Conflict when there is no such request."""
        for one in contents:
            self._own(one.tenant)
        if contents:
            rows = self._change(CONTENTS)
            if not {one.request for one in contents} <= self._rows(REQUESTS).keys():
                raise contradiction()
            for one in contents:
                rows.setdefault(one.request, stored(one))

    def get(self, request: str) -> KeptWords | None:
        """What is kept of a request."""
        return self._rows(CONTENTS).get(request)

    def page(self, after: str, limit: int) -> tuple[KeptWords, ...]:
        """What is kept, by request: the ``limit`` first after ``after``."""
        rows = self._rows(CONTENTS)
        return tuple(rows[request] for request in sorted(rows) if request > after)[:limit]

    def forget(self, requests: Collection[str]) -> int:
        """Deletes what is kept of these requests; how many there were."""
        rows = self._change(CONTENTS)
        return sum(rows.pop(request, None) is not None for request in set(requests))

    def purge(self, before: datetime) -> int:
        """Deletes what expired before; how many there were."""
        rows = self._change(CONTENTS)
        return sum(rows.pop(request) is not None for request, one in tuple(rows.items()) if one.expires_at <= before)
