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
from tailorbird.serving import AnswerPiece, ShadowedRequest, ShadowTraffic, TrafficArm
from tailorbird.serving.bills import present_bill


@pytest.mark.parametrize("paid", [2.0, 0.0])
def test_a_mirrored_request_that_ends_with_a_defect_was_paid_for(paid: float) -> None:
    async def pieces(*_: Any) -> AsyncGenerator[AnswerPiece, None]:
        present_bill().endpoint, present_bill().paid = "outside" if paid else "", paid
        yield AnswerPiece(text="lost")
        raise ValueError("a defect")

    async def story() -> None:
        answering, journal = SimpleNamespace(pieces=pieces), SimpleNamespace(put=rows.append)
        traffic = ShadowTraffic(answering, journal)  # type: ignore[arg-type]
        arm = TrafficArm("shadow", digest(2), TaskKind.GENERATE, CLASSIFY)
        traffic.ask(arm, ShadowedRequest(mirrored, None, (Message(role="user", content="I lost my card"),), Sampling()))
        (ended,) = await asyncio.gather(*traffic._tasks, return_exceptions=True)
        assert isinstance(ended, ValueError)

    rows: list[RequestRow] = []
    named = {"id": "req", "tenant": "acme", "key": "key", "alias": "acme/routing", "release": digest(1), "arm": "a", "route": "/v1"}
    told = {"status": 200, "outcome": "ok", "error": None, "prediction": None, "prompt_tokens": 3, "completion_tokens": 0}
    mirrored = RequestRow.model_validate(named | told | {"latency_ms": 1.0, "at": datetime(2026, 1, 1, tzinfo=UTC)})
    asyncio.run(story())
    found = [(row.arm, row.status, row.outcome, row.error, row.endpoint, row.paid) for row in rows]
    assert found == ([("shadow", 500, "error", "internal", "outside", 2.0)] if paid else [])
