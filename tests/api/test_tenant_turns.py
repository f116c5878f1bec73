"""Calls of one tenant take turns: however many it makes and however long they take, other tenants are answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.control import HERE, ask, code, control_app, session
from tailorbird.api import control
from tailorbird.api.control import TenantTurns
from tailorbird.domain.errors import Exhausted
from tailorbird.usecases import Dependencies


def test_long_calls_of_a_tenant_keep_no_other_tenant_out(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each held one of the threads that all calls shared, and who called was looked for in the same threads."""
    over = threading.Event()
    perform_request: Callable[..., Any] = control.perform_request

    def slow(deps: Dependencies, actor: Any, *asked: Any) -> Any:
        if actor.tenant == "acme":
            over.wait(30)
        return perform_request(deps, actor, *asked)

    monkeypatch.setattr(control, "perform_request", slow)

    async def story() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(control_app(deps)), base_url=HERE, timeout=60) as client:
            theirs, others = ({"authorization": f"Bearer {session(deps, 'viewer', tenant)}"} for tenant in ("acme", "globex"))
            calls = [asyncio.create_task(client.get("/api/runs", headers=theirs)) for _ in range(20)]
            await asyncio.sleep(0.2)
            assert (await asyncio.wait_for(client.get("/api/runs", headers=others), 20)).status_code == 200
            over.set()
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    try:
        answers = asyncio.run(story())
    finally:
        over.set()
    assert answers == [200] * 20


def test_calls_wait_for_their_turn_and_not_without_end() -> None:
    async def story() -> tuple[list[int], int, int]:
        turns, running, most, refused = TenantTurns(2, 3), 0, 0, 0

        async def call(number: int) -> int:
            nonlocal running, most, refused
            try:
                async with turns.turn("acme"):
                    running += 1
                    most = max(most, running)
                    await asyncio.sleep(0.01)
                    running -= 1
                    return number
            except Exhausted as error:
                refused += error.error_code == "calls_at_once"
                return -1

        done = await asyncio.gather(*map(call, range(8)))
        assert not turns._queues, "who has no calls is forgotten"
        return sorted(done), most, refused

    assert asyncio.run(story()) == ([-1, -1, -1, 0, 1, 2, 3, 4], 2, 3)


def test_a_body_of_very_many_values_is_refused(deps: Dependencies) -> None:
    """They are looked at in Python, while everybody else waits."""
    for body in (b'{"name": [' + b"1," * 1_000_000 + b"1]}", b'{"files": {' + b",".join(b'"%d":[]' % n for n in range(100_000)) + b"}}"):
        refused = ask(
            deps, lambda client, body=body: client.post("/api/runs", content=body, headers={"content-type": "application/json"}), "author"
        )
        assert code(refused) == (400, "invalid_input")
