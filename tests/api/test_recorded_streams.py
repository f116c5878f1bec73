"""Row and usage of a stream stand before its first piece is sent, and are settled however it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.api import ASK, CHAT, ask, events
from support.serving import DirectDriver, House, until
from tailorbird.api import request_record
from tailorbird.domain.curation import WITHHELD
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Amounts, window_start
from tailorbird.domain.objective import TaskKind
from tailorbird.ledger import database
from tailorbird.serving import request_log

STREAM = ASK | {"stream": True, "max_tokens": 50}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A record in a file that somebody else may lock; a row is not waited for long."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(request_log, "PATIENCE", 0.2)
    made = House(tmp_path)
    made.point("routing", made.release(task=TaskKind.GENERATE))
    yield made
    made.ledger.close()


class WatchingDriver(DirectDriver):
    """Calls ``between`` when the first piece was sent."""

    def __init__(self, house: House, between: Callable[[], None]) -> None:
        super().__init__(house)
        self.between = between

    async def stream(self, *question: object):  # type: ignore[no-untyped-def, override]
        first = True
        async for chunk in super().stream(*question):  # type: ignore[arg-type]
            yield chunk
            if first:
                self.between()
            first = False


@contextmanager
def locked(house: House) -> Iterator[None]:
    """Another connection holds the write lock."""
    with closing(sqlite3.connect(house.folder / "tailorbird.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def used(house: House) -> Amounts:
    with house.ledger.work("acme", write=False) as work:
        return work.usage.used("month", window_start("month", house.clock.now()))


def stream(house: House, driver: DirectDriver | None = None) -> httpx.Response:
    response: httpx.Response = ask(house, lambda client: client.post(CHAT, json=STREAM), driver)
    return response


def test_a_row_with_the_most_stands_before_the_stream(house: House) -> None:
    seen: list[tuple[RequestRow, Amounts]] = []
    response = stream(house, WatchingDriver(house, lambda: seen.append((house.rows()[0], used(house)))))
    assert events(response)[-1] == "[DONE]"
    ((row, reserved),) = seen
    assert (row.id, row.outcome, row.completion_tokens) == (response.headers["x-tailorbird-request-id"], "open", 50)
    assert (reserved.requests, reserved.output_tokens) == (1, 50)
    (settled,) = house.rows()
    assert (settled.id, settled.outcome) == (row.id, "ok")
    assert settled.completion_tokens < 50
    assert used(house)[:3] == (1, settled.prompt_tokens, settled.completion_tokens)


@pytest.mark.parametrize("error", [Unavailable("gone", "wait", code="engine_unavailable"), RuntimeError("a defect")])
def test_a_stream_that_breaks_is_settled(house: House, error: Exception) -> None:
    def fail() -> None:
        raise error

    stream(house, WatchingDriver(house, fail))
    (row,) = house.rows()
    assert row.outcome == "error"
    assert used(house)[:3] == (1, row.prompt_tokens, row.completion_tokens)


@pytest.mark.parametrize("detector", ["redaction", "sketch"])
def test_a_failing_detector_withholds_the_text_alone(house: House, monkeypatch: pytest.MonkeyPatch, detector: str) -> None:
    """A streamed answer is recorded and charged whatever a detector does to its text."""

    def fail(_text: str) -> str:
        raise KeyError("S")

    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"policy": TrafficPolicy(store_content=True)}))
    deps = house.deps
    object.__setattr__(deps, "redact", fail if detector == "redaction" else lambda text: text)
    monkeypatch.setattr(House, "deps", property(lambda _self: deps))
    if detector == "sketch":
        monkeypatch.setattr(request_record, "sketch", fail)
    assert events(stream(house))[-1] == "[DONE]"
    (row,) = house.rows()
    assert row.outcome == "ok"
    assert used(house)[:3] == (1, row.prompt_tokens, row.completion_tokens)
    with house.ledger.work("acme", write=False) as work:
        kept = work.contents.get(row.id)
    assert kept is not None
    assert (kept.answer == WITHHELD) is (detector == "redaction")


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["whole", "stream"])
def test_nothing_is_given_while_the_record_is_locked(house: House, body: dict[str, Any]) -> None:
    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        with locked(house):
            refused = [await client.post(CHAT, json=body)]
        return [*refused, await client.post(CHAT, json=body)]

    refused, answered = ask(house, story)
    assert (refused.status_code, refused.json()["error"]["code"], refused.headers["retry-after"]) == (503, "record_unavailable", "5")
    assert answered.status_code == 200
    assert [row.id for row in house.rows() if row.outcome == "ok"] == [answered.headers["x-tailorbird-request-id"]]


def test_a_record_locked_in_mid_stream_is_settled_later(house: House) -> None:
    """The row stands: the answer ends well, and what it used is counted once the lock is free."""
    with closing(sqlite3.connect(house.folder / "tailorbird.db", isolation_level=None)) as holder:

        async def story(client: httpx.AsyncClient) -> httpx.Response:
            response = await client.post(CHAT, json=STREAM)
            assert [row.outcome for row in house.rows()] == ["open"]
            holder.execute("ROLLBACK")
            await until(lambda: [row.outcome for row in house.rows()] == ["ok"])
            return response

        response = ask(house, story, WatchingDriver(house, lambda: holder.execute("BEGIN IMMEDIATE") and None))
    assert events(response)[-1] == "[DONE]"
    (row,) = house.rows()
    assert used(house)[:3] == (1, row.prompt_tokens, row.completion_tokens)
