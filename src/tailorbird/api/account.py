"""What one answered request leaves behind.

In: what becomes known of a request while it is answered. Out: exactly one row, whatever happens to the request. Must not know: how the
answer is shown, its text (a label is not text of the caller and is kept).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailorbird.api.call import Call
from tailorbird.api.metrics import Metrics
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import ApiKey
from tailorbird.ports.clock import Clock
from tailorbird.serving import Arm, Piece, RequestJournal, Route

_Outcome = Literal["ok", "error", "refused", "aborted"]


@dataclass(frozen=True)
class Books:
    """Where requests are written down."""

    journal: RequestJournal
    clock: Clock
    metrics: Metrics


class Account:
    """One request's entry: opened when its key is known, closed once."""

    def __init__(self, books: Books, call: Call, key: ApiKey, route: str) -> None:
        self._books = books
        self._call = call
        self._key = key
        self._route = route
        self._at = books.clock.now()
        self._closed = False
        self.alias = ""
        self.arm: Arm | None = None
        self.prediction: str | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0

    @property
    def tenant(self) -> str:
        """The tenant that asks."""
        return self._key.tenant

    @property
    def request_id(self) -> str:
        """The id that the caller is told."""
        return self._call.id

    @property
    def created(self) -> int:
        """When the request came, in seconds since 1970."""
        return int(self._at.timestamp())

    def answered_by(self, route: Route, arm: Arm) -> None:
        """Notes which alias and which arm answer."""
        self.alias, self.arm = route.alias.path, arm

    def note(self, piece: Piece) -> None:
        """Notes a piece of the answer: one more token until the engine has said how many it made."""
        if piece.finish_reason is None:
            self.completion_tokens += 1
            return
        self.prompt_tokens, self.completion_tokens = piece.prompt_tokens, piece.completion_tokens
        if piece.probabilities is not None:
            self.prediction = piece.text

    async def succeed(self) -> None:
        """Closes with an answer; returns once the row is committed. Raises Unavailable when it cannot be."""
        self._closed = True
        self._count("ok")
        await self._books.journal.record(self._row(200, "ok", None))

    def fail(self, error: TailorbirdError) -> None:
        """Closes with an error that the caller is told."""
        self._close(error.status, "refused" if error.status < 500 else "error", error.error_code)

    def abort(self) -> None:
        """Closes because the caller has left."""
        self._close(499, "aborted", None)

    def close_as_defect(self) -> None:
        """Closes what is still open: nothing of ours ended it."""
        self._close(500, "error", "internal")

    def _close(self, status: int, outcome: _Outcome, error: str | None) -> None:
        if not self._closed:
            self._closed = True
            self._count(outcome)
            self._books.journal.put(self._row(status, outcome, error))

    def _count(self, outcome: _Outcome) -> None:
        self._books.metrics.count_answer(outcome, self.prompt_tokens, self.completion_tokens)

    def _row(self, status: int, outcome: _Outcome, error: str | None) -> RequestRow:
        return RequestRow(
            id=self._call.id,
            tenant=self._key.tenant,
            key=self._key.id,
            alias=self.alias,
            release=self.arm.release if self.arm else None,
            arm=self.arm.name if self.arm else "",
            route=self._route,
            status=status,
            outcome=outcome,
            error=error,
            prediction=self.prediction,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            latency_ms=1000 * self._call.seconds,
            at=self._at,
        )
