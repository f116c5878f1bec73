"""What people say of answers, the answers that wait for people, and words that are kept for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from tailorbird.domain.feedback import Feedback, KeptWords, Marks, Review
from tailorbird.domain.value import Digest


class FeedbackRepository(Protocol):
    """One tenant's feedback."""

    def put(self, feedback: Feedback) -> None:
        """Adds feedback; of one request, kind and source the latest counts. Raises NotFound when there is no such request."""
        ...

    def of(self, request: str) -> tuple[Feedback, ...]:
        """What was said of a request, oldest first."""
        ...

    def marks(self, release: Digest, since: datetime) -> tuple[Marks, ...]:
        """What was said at or after ``since`` of answers of ``release``, by kind; only what has a score."""
        ...

    def count(self, releases: Collection[Digest]) -> int:
        """How much was ever said of answers of ``releases``."""
        ...

    def labels(self, after: str, limit: int) -> tuple[Feedback, ...]:
        """Labels that were given, by request: those of the ``limit`` first requests after ``after``."""
        ...

    def forget(self, requests: Collection[str]) -> tuple[str, ...]:
        """Empties the labels that were given to these requests: they are somebody's words. Scores and marks stay. Ids of those that had
        any."""
        ...


class ReviewRepository(Protocol):
    """One tenant's queue of answers that wait for people."""

    def add(self, reviews: Sequence[Review]) -> None:
        """Adds items; one that is there stays as it is. Raises Conflict when there is no such request."""
        ...

    def get(self, request: str) -> Review:
        """The item of a request. Raises NotFound."""
        ...

    def waiting(self, limit: int = 50) -> tuple[Review, ...]:
        """Open items, oldest first."""
        ...

    def count(self) -> int:
        """How many items are open."""
        ...

    def replace(self, review: Review) -> None:
        """Writes a settled item over the open one. Raises Conflict when it is not open any more."""
        ...

    def forget(self, requests: Collection[str]) -> tuple[str, ...]:
        """Drops what is open about these requests, and empties what people answered. Ids of those that were in the queue."""
        ...


class ContentRepository(Protocol):
    """One tenant's kept words."""

    def add(self, contents: Sequence[KeptWords]) -> None:
        """Keeps words of requests; what is kept of one stays as it is. Raises Conflict when there is no such request."""
        ...

    def get(self, request: str) -> KeptWords | None:
        """What is kept of a request."""
        ...

    def page(self, after: str, limit: int) -> tuple[KeptWords, ...]:
        """What is kept, by request: the ``limit`` first after ``after``."""
        ...

    def forget(self, requests: Collection[str]) -> int:
        """Deletes what is kept of these requests; how many there were."""
        ...

    def purge(self, before: datetime) -> int:
        """Deletes what expired before; how many there were."""
        ...
