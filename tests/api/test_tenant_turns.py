"""Calls of one tenant take turns: however many it makes and however long they take, other tenants are answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.control import HERE, act, ask, code, control_app, session, upload
from tailorbird.api import control
from tailorbird.api.control import TenantTurns
from tailorbird.domain.errors import Exhausted
from tailorbird.usecases import Dependencies
from tailorbird.usecases.registry import perform
from tailorbird.usecases.snapshots import inspect_uploaded
from tailorbird.usecases.storage_quota import uploads_folder

RAW = {"content-type": "application/octet-stream"}


def test_long_calls_of_a_tenant_keep_no_other_tenant_out(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each held one of the threads that all calls shared, and who called was looked for in the same threads."""
    over = threading.Event()
    perform_request: Callable[..., Any] = control.perform_request

    def slow(deps: Dependencies, actor: Any, *asked: Any) -> Any:
        if actor.tenant == "acme":
            over.wait(30)
        return perform_request(deps, actor, *asked)

    monkeypatch.setattr(control, "perform_request", slow)

    async def story() -> tuple[float, list[int]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(control_app(deps)), base_url=HERE, timeout=60) as client:
            theirs, others = ({"authorization": f"Bearer {session(deps, 'viewer', tenant)}"} for tenant in ("acme", "globex"))
            calls = [asyncio.create_task(client.get("/api/runs", headers=theirs)) for _ in range(20)]
            await asyncio.sleep(0.2)
            started = time.monotonic()
            assert (await asyncio.wait_for(client.get("/api/runs", headers=others), 20)).status_code == 200
            took = time.monotonic() - started
            over.set()
            return took, [answer.status_code for answer in await asyncio.gather(*calls)]

    try:
        took, answers = asyncio.run(story())
    finally:
        over.set()
    assert took < 10
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


def test_files_that_are_looked_at_are_counted_per_tenant_and_in_all(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a process of its own; one tenant's would have been all that there may be, and each waited in a thread for a minute."""
    over, begun = threading.Event(), threading.Semaphore(0)

    def long_look(*_: object) -> Any:
        begun.release()
        over.wait(30)
        raise Exhausted("looked long enough", "go on", code="looked")

    monkeypatch.setattr("tailorbird.usecases.snapshots.data.inspect_file", long_look)
    files = {tenant: upload(deps, b"text,label\na,b\n", tenant) for tenant in ("acme", "globex")}

    def look(tenant: str) -> str:
        with pytest.raises(Exhausted) as ended:
            perform(deps, act(deps, "author", tenant), inspect_uploaded, name="rows.csv", file=files[tenant])
        return ended.value.error_code

    with ThreadPoolExecutor(4) as threads:
        try:
            looking = [threads.submit(look, tenant) for tenant in ("acme", "acme", "globex", "globex")]
            assert all(begun.acquire(timeout=20) for _ in looking)
            assert look("acme") == look("globex") == "inspections_at_once"
        finally:
            over.set()
        assert [each.result(20) for each in looking] == ["looked"] * 4


def _under_way(deps: Dependencies) -> list[Path]:
    """Folders of uploads that have not ended, below that of their tenant."""
    return list((deps.workspace / "uploads").glob("*/*"))


def test_uploads_of_a_tenant_take_turns(deps: Dependencies) -> None:
    """Each may take as much disk as a file may have before its tenant's quota knows of it."""

    async def story(client: httpx.AsyncClient) -> tuple[int, list[int]]:
        go_on = asyncio.Event()

        async def body(number: int) -> AsyncIterator[bytes]:
            yield b"%d" % number
            await go_on.wait()
            yield b"."

        sent = [asyncio.create_task(client.post("/api/artifacts", content=body(number), headers=RAW)) for number in range(9)]
        deadline = time.monotonic() + 10
        while len(_under_way(deps)) < 4 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        count = len(_under_way(deps))
        go_on.set()
        return count, [answer.status_code for answer in await asyncio.gather(*sent)]

    assert ask(deps, story, "author") == (4, [200] * 9)


def test_an_upload_that_ends_while_another_begins_stops_nothing(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders left behind are looked for at each upload; one that its own upload cleared away in that moment was an error of the disk."""
    uploads = uploads_folder(deps, "acme")
    (uploads / "left").mkdir(parents=True)
    listed = Path.iterdir

    def ends_meanwhile(folder: Path) -> Iterator[Path]:
        for path in list(listed(folder)):
            if path.parent == uploads:
                path.rmdir()
            yield path

    monkeypatch.setattr(Path, "iterdir", ends_meanwhile)
    answer = ask(deps, lambda client: client.post("/api/artifacts", content=b"a,b", headers=RAW), "author")
    assert (answer.status_code, (uploads / "left").exists()) == (200, False)


def test_a_body_of_very_many_values_is_refused(deps: Dependencies) -> None:
    """They are looked at in Python, while everybody else waits."""
    for body in (b'{"name": [' + b"1," * 1_000_000 + b"1]}", b'{"files": {' + b",".join(b'"%d":[]' % n for n in range(100_000)) + b"}}"):
        refused = ask(
            deps, lambda client, body=body: client.post("/api/runs", content=body, headers={"content-type": "application/json"}), "author"
        )
        assert code(refused) == (400, "invalid_input")
