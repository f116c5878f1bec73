"""What must hold of tenants whatever breaks: settled usage, the old release when the new one is tampered with, names that tell nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from support.processes import ASK, CHAT, Live, gateway_process, live, wait_ready, wait_until
from support.serving import House
from tailorbird.domain.errors import Corrupt, Unavailable
from tailorbird.domain.identity import window_start
from tailorbird.domain.objective import TaskKind


@pytest.fixture
def served(house: House) -> Iterator[Live]:
    house.point("routing", house.release())
    with live(house) as running:
        yield running


def ask(served: Live, **changes: object) -> httpx.Response:
    return httpx.post(served.url + CHAT, json=ASK | changes, headers=served.headers, timeout=30)


TAMPERED, GONE = Corrupt("changed", "restore", code="artifact_corrupt"), Unavailable("gone", "check", code="storage_unreachable")


@pytest.mark.parametrize("error", [TAMPERED, GONE])
def test_a_release_that_cannot_be_loaded_leaves_the_old_one_answering(served: Live, house: House, error: Corrupt | Unavailable) -> None:
    """Tampered bytes, or an artifact store that is gone: refused, and tried again; the name goes on with what it had."""
    before = ask(served).headers["x-tailorbird-release"]
    bad = house.release(2)
    house.refusals[bad] = error
    house.point("routing", bad)
    wait_until(lambda: served.readiness()[1]["aliases"]["behind"] == 1, 10)
    assert {ask(served).headers["x-tailorbird-release"] for _ in range(5)} == {before}
    del house.refusals[bad]
    wait_until(lambda: ask(served).headers["x-tailorbird-release"] == bad, 20)


def test_another_tenants_names_tell_nothing(served: Live, house: House) -> None:
    """A name of another tenant and a name of nobody: the same answer, and as soon."""
    house.point("hidden", house.release(tenant="globex"), tenant="globex")
    wait_until(lambda: served.readiness()[1]["aliases"]["live"] == 2, 10)
    names = ("globex/hidden", "globex/nobody", "nobody/hidden")
    bodies = [ask(served, model=name).json()["error"] for name in names]
    for name, body in zip(names, bodies, strict=True):
        body["message"] = body["message"].replace(name, "that")
    assert bodies[0] == bodies[1] == bodies[2]
    assert "hidden" not in httpx.get(f"{served.url}/v1/models", headers=served.headers).text


@pytest.mark.slow
def test_a_gateway_that_is_killed_loses_neither_rows_nor_settled_usage(house: House) -> None:
    house.point("routing", house.release())
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    _, secret = house.key()
    headers, told = {"authorization": f"Bearer {secret}"}, []
    for _ in range(2):
        with gateway_process(house.folder) as running:
            wait_ready(running.url, running.process)
            for _ in range(5):
                told.append(httpx.post(running.url + CHAT, json=ASK, headers=headers, timeout=20).json()["id"])
            stream = ASK | {
                "model": "acme/writer",
                "stream": True,
                "max_tokens": 500,
                "messages": [{"role": "user", "content": "w " * 500}],
            }
            with httpx.stream("POST", running.url + CHAT, json=stream, headers=headers, timeout=20) as response:
                next(response.iter_lines())
                running.process.send_signal(signal.SIGKILL)
                running.wait()
    rows = {row.id: row for row in house.rows()}
    assert set(told) <= set(rows)
    with house.ledger.work("acme", write=False) as work:
        used = [work.usage.used("month", window_start("month", at)) for at in {house.clock.now(), datetime.now(UTC)}]
    assert sum(one.requests for one in used) == len(rows)
    assert sum(one.input_tokens for one in used) == sum(row.prompt_tokens for row in rows.values())
