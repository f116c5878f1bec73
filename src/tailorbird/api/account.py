"""What one request leaves behind.

In: what becomes known of a request while it is answered. Out: exactly one row for each text that it asks about, whatever happens to it.
Must not know: how an answer is shown, its text (a label is not text of the caller and is kept).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tailorbird.api.call import Call
from tailorbird.api.metrics import Metrics
from tailorbird.api.occupancy import Occupancy
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import ApiKey
from tailorbird.domain.plan import Prices
from tailorbird.foundations.sketch import sketch
from tailorbird.ports.clock import Clock
from tailorbird.serving import Arm, Piece, RequestJournal, Route

_Outcome = Literal["ok", "error", "refused", "aborted"]


@dataclass(frozen=True)
class Books:
    """Where requests are written down, and at what prices."""

    journal: RequestJournal
    clock: Clock
    metrics: Metrics
    prices: Prices = field(default_factory=Prices)
    engine: Occupancy = field(default_factory=Occupancy)


@dataclass
class Answer:
    """What becomes known of one answer. ``text`` is the user's; its length and sketch are kept, and it is not."""

    text: str = ""
    prediction: str | None = None
    confidence: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def note(self, piece: Piece) -> None:
        """Notes a piece: one more token until the engine has said how many it made."""
        if piece.finish_reason is None:
            self.completion_tokens += 1
            return
        self.prompt_tokens, self.completion_tokens = piece.prompt_tokens, piece.completion_tokens
        if piece.probabilities is not None:
            self.prediction, self.confidence = piece.text, piece.probabilities.get(piece.text)


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
        self.answers = [Answer()]

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

    @property
    def prompt_tokens(self) -> int:
        """Tokens read, for all answers."""
        return sum(answer.prompt_tokens for answer in self.answers)

    @property
    def completion_tokens(self) -> int:
        """Tokens written, in all answers."""
        return sum(answer.completion_tokens for answer in self.answers)

    def answered_by(self, route: Route, arm: Arm, texts: Sequence[str]) -> None:
        """Notes which alias and which arm answer, and the user's texts."""
        self.alias, self.arm = route.alias.path, arm
        self.answers = [Answer(text) for text in texts]

    def note(self, index: int, piece: Piece) -> None:
        """Notes a piece of the answer to the text ``index``."""
        self.answers[index].note(piece)

    async def succeed(self) -> None:
        """Closes with an answer; returns once the rows are committed. Raises Unavailable when they cannot be."""
        self._closed = True
        self._count("ok")
        await asyncio.gather(*(self._books.journal.record(row) for row in self._rows(200, "ok", None)))

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
            for row in self._rows(status, outcome, error):
                self._books.journal.put(row)

    def _count(self, outcome: _Outcome) -> None:
        for answer in self.answers:
            self._books.metrics.count_answer(outcome, answer.prompt_tokens, answer.completion_tokens)

    def _rows(self, status: int, outcome: _Outcome, error: str | None) -> list[RequestRow]:
        cost = self._call.engine_share / 3600 * self._books.prices.per_hour / len(self.answers)
        return [
            RequestRow(
                id=f"{self._call.id}-{index}" if index else self._call.id,
                tenant=self._key.tenant,
                key=self._key.id,
                alias=self.alias,
                release=self.arm.release if self.arm else None,
                arm=self.arm.name if self.arm else "",
                route=self._route,
                status=status,
                outcome=outcome,
                error=error,
                prediction=answer.prediction,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                latency_ms=1000 * self._call.seconds,
                at=self._at,
                characters=len(answer.text),
                sketch=sketch(answer.text) if answer.text else "",
                confidence=answer.confidence,
                cost=cost,
            )
            for index, answer in enumerate(self.answers)
        ]
