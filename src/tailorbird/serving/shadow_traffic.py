"""Shadow traffic: the candidate is asked what the release before was asked; its answers are recorded and discarded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from tailorbird.domain.deployment import SHADOW, RequestRow, shadow_id
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.serving.alias_routes import TrafficArm
from tailorbird.serving.answers import AnswerPiece, Answers, told_text
from tailorbird.serving.hosted_models import Bill, billed
from tailorbird.serving.request_log import RequestLog

#: Mirrored requests at once, and those that wait at most: what comes beyond is not mirrored, and rollouts tell the share that was.
_AT_ONCE, _MOST_WAITING = 4, 64


@dataclass(frozen=True)
class ShadowedRequest:
    """What a request asks: its conversation, how its answer is made, and the groups of its key."""

    turns: Sequence[Message]
    answers: Answers
    sampling: Sampling
    groups: frozenset[str] = frozenset()


class ShadowTraffic:
    """Shadow requests until ``stop``."""

    def __init__(self, journal: RequestLog) -> None:
        self._journal = journal
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        #: Requests that were not mirrored: too many waited.
        self.dropped = 0

    def ask(self, arm: TrafficArm, asked: ShadowedRequest, row: RequestRow, given: str) -> None:
        """Sends the request to ``arm``; returns at once. ``row`` is what it left, ``given`` its answer (empty: nothing to compare)."""
        if len(self._tasks) >= _MOST_WAITING:
            self.dropped += 1
            return
        task = asyncio.create_task(self._ask(arm, asked, row, given))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancels what is under way; it leaves rows only where an endpoint was asked, and is paid."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, arm: TrafficArm, asked: ShadowedRequest, row: RequestRow, given: str) -> None:
        async with self._slots:
            started, bill = time.perf_counter(), Bill()
            note = partial(self._note, arm, row, bill, started)
            try:
                found = await _answer(arm, asked, given, bill)
            except TailorbirdError as error:
                outcome = "refused" if error.status < 500 else "error"
                found = {"status": error.status, "outcome": outcome, "error": error.error_code}
            except asyncio.CancelledError:
                if bill.paid:
                    note({"status": 499, "outcome": "aborted"})
                raise
            except BaseException:
                note({"status": 500, "outcome": "error", "error": "internal"})
                raise
        note(found)

    def _note(self, arm: TrafficArm, row: RequestRow, bill: Bill, started: float, found: dict[str, Any]) -> None:
        latency = 1000 * (time.perf_counter() - started)
        own = {"id": shadow_id(row.id), "arm": SHADOW, "release": arm.release, "latency_ms": latency}
        paid = {"endpoint": bill.endpoint, "paid": bill.paid, "cost": bill.paid}
        self._journal.put(row.model_copy(update=_NOTHING_YET | own | paid | found))


async def _answer(arm: TrafficArm, asked: ShadowedRequest, given: str, bill: Bill) -> dict[str, Any]:
    said = list[AnswerPiece]()
    sampling = asked.sampling.model_copy(update={"whole": True})
    async with aclosing(billed(bill, asked.answers(arm, asked.turns, sampling, asked.groups))) as pieces:
        async for piece in pieces:
            said.append(piece)
    text, last = "".join(map(told_text, said)), said[-1]
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.completion_tokens,
        "prediction": text if last.probabilities is not None and not last.out_of_scope else None,
        "confidence": (last.probabilities or {}).get(text),
        "referred": last.referred,
        "out_of_scope": last.out_of_scope,
        "malformed": is_malformed(last, text, json_wanted=sampling.json_schema is not None),
        "agrees": text == given if given else None,
    }


def is_malformed(last: AnswerPiece, text: str, *, json_wanted: bool) -> bool:
    """True for no answer at all, and for one that is not the JSON that was asked for; ``last`` is its last piece. Labels and vectors, and
    what is out of scope, have no form."""
    if last.out_of_scope or last.probabilities is not None or last.vectors:
        return False
    if not json_wanted:
        return not text.strip()
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


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
