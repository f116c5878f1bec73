"""Mirrored requests: what an endpoint was paid for one has a row, whatever ended it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from support.serving import CLASSIFY, digest
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.serving.alias_routes import TrafficArm
from tailorbird.serving.answers import AnswerPiece, Answers
from tailorbird.serving.hosted_models import Bill, billing
from tailorbird.serving.shadow_traffic import ShadowedRequest, ShadowTraffic

ARM = TrafficArm("shadow", digest(2), TaskKind.GENERATE, CLASSIFY)
TURNS = (Message(role="user", content="I lost my card"),)


def row(name: str = "req") -> RequestRow:
    named = {"id": name, "tenant": "acme", "key": "key", "alias": "acme/routing", "release": digest(1), "arm": "a", "route": "/v1"}
    told = {"status": 200, "outcome": "ok", "error": None, "prediction": None, "prompt_tokens": 3, "completion_tokens": 0}
    return RequestRow.model_validate(named | told | {"latency_ms": 1.0, "at": datetime(2026, 1, 1, tzinfo=UTC)})


def mirrored(answers: Answers, given: str = "", form: str | None = None) -> list[RequestRow]:
    """The rows that one mirrored request leaves."""
    rows: list[RequestRow] = []

    async def story() -> None:
        traffic = ShadowTraffic(SimpleNamespace(put=rows.append))  # type: ignore[arg-type]
        traffic.ask(ARM, ShadowedRequest(TURNS, answers, Sampling(json_schema=form)), row(), given)
        await asyncio.gather(*traffic._tasks, return_exceptions=True)

    asyncio.run(story())
    return rows


@pytest.mark.parametrize(
    "paid",
    [
        2.0,
    ],
)
def test_a_defect_leaves_a_row_with_what_was_paid(paid: float) -> None:
    """Else what a candidate cannot answer at all would not be seen."""

    async def answers(*_: Any) -> AsyncGenerator[AnswerPiece, None]:
        bill = billing.get() or Bill()
        bill.endpoint, bill.paid = "outside" if paid else "", paid
        yield AnswerPiece(text="lost")
        raise ValueError("a defect")

    found = [(row.arm, row.status, row.outcome, row.error, row.endpoint, row.paid) for row in mirrored(answers)]
    assert found == [("shadow", 500, "error", "internal", "outside" if paid else "", paid)]


@pytest.mark.parametrize(("text", "malformed"), [("{}", False), ("lost", True), ("", True)])
def test_the_form_that_was_asked_for_is_asked_of_both(text: str, malformed: bool) -> None:
    async def answers(*_: Any) -> AsyncGenerator[AnswerPiece, None]:
        yield AnswerPiece(text=text, finish_reason="stop")

    (found,) = mirrored(answers, text, "{}")
    assert (found.malformed, found.agrees) == (malformed, True if text else None)
