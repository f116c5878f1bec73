"""Shadow traffic: the same request to a second release, recorded and compared, never returned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from tailorbird.domain.deployment import SHADOW, RequestRow
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.serving.alias_routes import TrafficArm
from tailorbird.serving.answers import AnswerService, told_text
from tailorbird.serving.bills import Bill, billed
from tailorbird.serving.request_log import RequestLog

#: Mirrored requests at once, and those that wait at most.
_AT_ONCE, _MOST_WAITING = 4, 64


@dataclass(frozen=True)
class ShadowedRequest:
    """Answered request: its row, the answer's text (None without one), the groups of its key."""

    row: RequestRow
    given: str | None
    conversation: Sequence[Message]
    sampling: Sampling
    groups: frozenset[str] = frozenset()


class ShadowTraffic:
    """Shadow requests until ``stop``."""

    def __init__(self, answering: AnswerService, journal: RequestLog) -> None:
        self._answering = answering
        self._journal = journal
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, arm: TrafficArm, asked: ShadowedRequest) -> None:
        """Sends the request to ``arm``; returns at once."""
        if len(self._tasks) < _MOST_WAITING:
            task = asyncio.create_task(self._ask(arm, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancels what is under way; it leaves rows only where an endpoint was asked, and is paid."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, arm: TrafficArm, asked: ShadowedRequest) -> None:
        async with self._slots:
            started, bill = time.perf_counter(), Bill()
            try:
                found = await self._answer(arm, asked, bill)
            except TailorbirdError as error:
                refused = error.status < 500
                found = {"status": error.status, "outcome": "refused" if refused else "error", "error": error.error_code}
            except BaseException as error:
                if bill.paid:
                    left = isinstance(error, asyncio.CancelledError)
                    found = {"status": 499, "outcome": "aborted"} if left else {"status": 500, "outcome": "error", "error": "internal"}
                    self._note(arm, asked, bill, found, started)
                raise
        self._note(arm, asked, bill, found, started)

    def _note(self, arm: TrafficArm, asked: ShadowedRequest, bill: Bill, found: dict[str, Any], started: float) -> None:
        own = {
            "id": f"{asked.row.id}-shadow"[:64],
            "arm": SHADOW,
            "release": arm.release,
            "latency_ms": 1000 * (time.perf_counter() - started),
            "endpoint": bill.endpoint,
            "paid": bill.paid,
            "cost": bill.paid,
        }
        self._journal.put(asked.row.model_copy(update=_NOTHING_YET | own | found))

    async def _answer(self, arm: TrafficArm, asked: ShadowedRequest, bill: Bill) -> dict[str, Any]:
        text = ""
        async with aclosing(billed(bill, self._answering.pieces(arm, asked.conversation, asked.sampling, asked.groups))) as pieces:
            async for piece in pieces:
                text += told_text(piece)
                last = piece
        told = last.probabilities or {}
        return {
            "prompt_tokens": last.prompt_tokens,
            "completion_tokens": last.completion_tokens,
            "prediction": text if last.probabilities is not None and not last.out_of_scope else None,
            "confidence": told.get(text),
            "referred": last.referred,
            "out_of_scope": last.out_of_scope,
            "malformed": not text.strip() and not last.out_of_scope,
            "agrees": None if asked.given is None else text == asked.given,
        }


#: What a mirrored request does not share with the one it mirrors.
_NOTHING_YET: dict[str, Any] = {
    "status": 200,
    "outcome": "ok",
    "error": None,
    "prediction": None,
    "confidence": None,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "cost": 0.0,
    "referred": False,
    "out_of_scope": False,
    "malformed": False,
    "agrees": None,
}
