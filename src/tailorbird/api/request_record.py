"""Request record: the row, usage, metrics and kept words of one request."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from tailorbird.api.http import EngineShare, RequestContext
from tailorbird.api.metrics import Metrics
from tailorbird.chat.conversations import as_lines, fold_turns
from tailorbird.domain.deployment import OPEN_ROW, RequestRow
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.feedback import KeptWords, Review, ReviewReason, TrafficPolicy
from tailorbird.domain.identity import ApiKey
from tailorbird.domain.plan import Prices
from tailorbird.domain.prompt import Message
from tailorbird.monitoring.sketch import sketch
from tailorbird.ports.clock import Clock
from tailorbird.serving.alias_routes import AliasRoute, TrafficArm
from tailorbird.serving.answers import AnswerPiece, told_text
from tailorbird.serving.hosted_models import Bill
from tailorbird.serving.quotas import Quotas, Reservation
from tailorbird.serving.request_log import KeptRequest, RequestLog, amounts_of
from tailorbird.serving.shadow_traffic import is_malformed
from tailorbird.system.background_loop import place_of
from tailorbird.usecases.dependencies import Denials

_log = logging.getLogger("tailorbird.api")

#: Rows of refused requests of one key in a minute.
MOST_REFUSED = 100
#: Errors of answers that the engine had begun: a grammar passes its limits when tokens are asked for, after the prompt was read.
_ENDED_BY_CALLER = frozenset({"schema_invalid"})

_Outcome = Literal["ok", "error", "refused", "aborted", "open"]


@dataclass(frozen=True)
class RecordingContext:
    """Dependencies of request recording: rows, metrics, prices."""

    journal: RequestLog
    clock: Clock
    metrics: Metrics
    quotas: Quotas
    prices: Prices = field(default_factory=Prices)
    engine: EngineShare = field(default_factory=EngineShare)
    draw: random.Random = field(default_factory=random.SystemRandom)
    refusals: Denials = field(default_factory=Denials)


@dataclass
class AnswerFacts:
    """What becomes known of the answer. ``text`` is the user's last, ``turns`` the conversation that it ends. ``expected`` tokens were
    reserved for reading it, ``most`` for writing the answer; ``asked`` is set once the engine was asked. ``bill`` is of a server outside
    the house; ``fallback``: the release before answered in place of a hosted model."""

    text: str = ""
    expected: int = 0
    most: int = 0
    asked: bool = False
    given: list[str] = field(default_factory=list)
    prediction: str | None = None
    confidence: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    referred: bool = False
    out_of_scope: bool = False
    malformed: bool = False
    bill: Bill = field(default_factory=Bill)
    fallback: bool = False
    wants_json: bool = False
    turns: Sequence[Message] = ()

    @property
    def words(self) -> str:
        """What was said before the answer, as people read it: a person who takes over must know the whole conversation. What a program
        put before it (system) is not a person's."""
        said = [turn for turn in self.turns if turn.role != "system"]
        return as_lines(fold_turns(said)) if len(said) > 1 else self.text

    @cached_property
    def sketch(self) -> str:
        """Sketch of the text. Where none can be made the row goes without it."""
        try:
            return sketch(self.text) if self.text else ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the row must stand
            _log.error("a text has no sketch, by a defect: %s", place_of(error))
            return ""

    def note(self, piece: AnswerPiece) -> None:
        """Notes a piece: one more token until the engine says how many it made, and what it read is as expected."""
        self.given.append(told_text(piece))
        self.fallback = piece.fallback
        if piece.finish_reason is None:
            self.completion_tokens = piece.completion_tokens or self.completion_tokens + 1
            self.prompt_tokens = piece.prompt_tokens or self.expected
            return
        self.prompt_tokens, self.completion_tokens = piece.prompt_tokens, piece.completion_tokens
        self.referred, self.cached_tokens, self.reasoning_tokens = piece.referred, piece.cached_tokens, piece.reasoning_tokens
        self.out_of_scope = piece.out_of_scope
        if piece.probabilities is not None and not piece.out_of_scope:
            self.prediction, self.confidence = piece.text, piece.probabilities.get(piece.text)
        self.malformed = is_malformed(piece, "".join(self.given), json_wanted=self.wants_json)


class RequestRecord:
    """One request's entry: opened when its key is known, closed once."""

    def __init__(self, books: RecordingContext, call: RequestContext, key: ApiKey, route: str) -> None:
        self._books = books
        self._call = call
        self.key = key
        self._route = route
        self._closed = False
        self._version = 0
        self._unit = ""
        self.at: datetime = books.clock.now()
        self.alias = ""
        self.arm: TrafficArm | None = None
        self.answer = AnswerFacts()
        self.reserved: Reservation | None = None
        self.row: RequestRow | None = None
        self.when_written: Callable[[], None] = lambda: None

    @property
    def groups(self) -> frozenset[str]:
        """The groups whose documents may be shown to the caller."""
        return self.key.groups

    @property
    def tenant(self) -> str:
        """The tenant that asks."""
        return self.key.tenant

    @property
    def request_id(self) -> str:
        """The id that the caller is told."""
        return self._call.id

    @property
    def created(self) -> int:
        """Unix time of the request."""
        return int(self.at.timestamp())

    @property
    def given_by(self) -> TrafficArm:
        """The arm that has given the answer: the one that was drawn, or what stands in for it."""
        assert self.arm is not None
        stood_in = self.arm.fallback if self.answer.fallback else None
        return stood_in or self.arm

    def answered_by(self, route: AliasRoute, arm: TrafficArm, unit: str) -> None:
        """Notes which alias and which arm answer, and what was told of the message."""
        self.alias, self.arm, self._version, self._unit = route.alias.path, arm, route.alias.version, unit

    async def open(self) -> None:
        """Has the row stand before the first piece is sent, with the most that the answer may use and cost: it is recorded and charged
        whatever fails from here on. Raises Unavailable when it cannot be committed."""
        answer, row = self.answer, self._row(200, OPEN_ROW, None)
        most = {
            "prompt_tokens": max(answer.expected, row.prompt_tokens),
            "completion_tokens": max(answer.most, row.completion_tokens),
            "cost": row.cost - row.paid + answer.bill.most,
            "paid": answer.bill.most,
        }
        await self._books.journal.record(row.model_copy(update=most))

    async def succeed(self) -> None:
        """Closes with an answer; returns once the row is committed. Raises Unavailable when it cannot be."""
        row = self._write(200, "ok", None)
        await self._books.journal.record(row, self._kept(row))

    def fail(self, error: TailorbirdError) -> None:
        """Closes with an error that the caller is told. What was read for an answer that the caller's own schema ended is charged."""
        if error.error_code in _ENDED_BY_CALLER:
            self._charge_reading()
        self._close(error.status, "refused" if error.status < 500 else "error", error.error_code)

    def abort(self) -> None:
        """Closes because the caller has left. What the engine was asked to read is charged, whether or not a first token came of it: else
        leaving early would make reading free."""
        self._charge_reading()
        self._close(499, "aborted", None)

    def _charge_reading(self) -> None:
        if self.answer.asked and not self.answer.given:
            self.answer.prompt_tokens = self.answer.expected

    def close_as_defect(self) -> None:
        """Closes what is still open: nothing of ours ended it."""
        self._close(500, "error", "internal")

    def _close(self, status: int, outcome: _Outcome, error: str | None) -> None:
        if not self._closed:
            row = self._write(status, outcome, error)
            if self._is_kept(status):
                self._books.journal.put(row)

    def _is_kept(self, status: int) -> bool:
        """Of requests that were refused before anybody was asked, rows are written of so many of a key in a minute; the others are counted,
        as denials are: else a key with no quota left could fill the record."""
        if self.arm is not None or not 400 <= status < 499:
            return True
        return self._books.refusals.is_written(self.tenant, f"key-{self.key.id}", self.at, MOST_REFUSED)

    def _write(self, status: int, outcome: _Outcome, error: str | None) -> RequestRow:
        """Makes the row, and settles with what it says: the record and the count are of one mind."""
        self._closed = True
        answer, row = self.answer, self._row(status, outcome, error)
        self.row = row
        if self.reserved is not None:
            self.reserved.settle(amounts_of([row]))
        self._books.metrics.count_answer(outcome, answer.prompt_tokens, answer.completion_tokens)
        self._books.metrics.count_refusal(referred=answer.referred, out_of_scope=answer.out_of_scope)
        self._books.metrics.count_paid(answer.bill)
        self.when_written()
        return row

    def _kept(self, row: RequestRow) -> KeptRequest | None:
        """What the tenant's policy says is kept of an answer beside its row; None where that is nothing."""
        tenant = self._books.quotas.policy_of(self.tenant)
        policy = tenant.policy if tenant else TrafficPolicy()
        reason = ReviewReason.REFERRED if row.referred else None
        if reason is None and policy.review_share and self._books.draw.random() < policy.review_share:
            reason = ReviewReason.SAMPLE
        if reason is None and not policy.store_content:
            return None
        review = Review(tenant=row.tenant, request=row.id, alias=row.alias, reason=reason, queued_at=self.at) if reason else None
        return KeptRequest(self._content(row, policy) if policy.store_content else None, review)

    def _content(self, row: RequestRow, policy: TrafficPolicy) -> KeptWords:
        answer, until = self.answer, self.at + timedelta(days=policy.retention_days)
        return KeptWords(tenant=row.tenant, request=row.id, text=answer.words, answer="".join(answer.given), at=self.at, expires_at=until)

    def _row(self, status: int, outcome: _Outcome, error: str | None) -> RequestRow:
        answer = self.answer
        arm = (self.arm.fallback if self.arm and answer.fallback else None) or self.arm
        hosted = arm is not None and arm.hosted is not None
        cost = 0.0 if hosted else self._call.engine_share / 3600 * self._books.prices.per_hour
        return RequestRow(
            id=self._call.id,
            tenant=self.key.tenant,
            key=self.key.id,
            alias=self.alias,
            release=arm.release if arm else None,
            arm=arm.name if arm else "",
            route=self._route,
            status=status,
            outcome=outcome,
            error=error,
            prediction=answer.prediction,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            latency_ms=1000 * self._call.seconds,
            at=self.at,
            characters=len(answer.text),
            sketch=answer.sketch,
            confidence=answer.confidence,
            cost=answer.bill.paid + cost,
            version=self._version,
            unit=self._unit,
            malformed=answer.malformed,
            referred=answer.referred,
            out_of_scope=answer.out_of_scope,
            endpoint=answer.bill.endpoint,
            paid=answer.bill.paid,
        )
