"""Rows: grouped, committed before they are acknowledged, reported when they cannot be written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.serving import House, digest, until
from tailorbird.domain.curation import WITHHELD
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Conflict, Unavailable
from tailorbird.domain.feedback import KeptWords
from tailorbird.domain.identity import Amounts, window_start
from tailorbird.serving.request_log import KeptRequest, RequestLog


def row(house: House, n: int, tenant: str = "acme") -> RequestRow:
    return RequestRow(
        id=f"req_{tenant}_{n}",
        tenant=tenant,
        key="key",
        alias=f"{tenant}/routing",
        release=digest(1),
        arm="a",
        route="/v1/chat/completions",
        status=200,
        outcome="ok",
        error=None,
        prediction="refund",
        prompt_tokens=3,
        completion_tokens=0,
        latency_ms=1.0,
        at=house.clock.now(),
    )


class CountingLedger:
    """Passes work through; counts transactions, and refuses the first ``refusals`` of them."""

    def __init__(self, house: House, refusals: int = 0) -> None:
        self._house = house
        self._refusals = refusals
        self.groups: list[int] = []
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self._house.ledger.flush()

    @contextmanager
    def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> Iterator[Any]:
        if self._refusals:
            self._refusals -= 1
            raise Unavailable("locked", "wait", code="database_busy")
        with self._house.ledger.work(tenant, write=write, durable=durable) as work:
            yield _Counted(work, self.groups)


class _Counted:
    def __init__(self, work: Any, groups: list[int]) -> None:
        self._work, self._groups, self.requests = work, groups, self

    def add(self, rows: Sequence[RequestRow]) -> None:
        self._groups.append(len(rows))
        self._work.requests.add(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work if name == "usage" else self._work.requests, name)


def test_rows_are_committed_in_groups_before_they_are_acknowledged(house: House) -> None:
    async def story() -> None:
        ledger = CountingLedger(house)
        journal = RequestLog(ledger)  # type: ignore[arg-type]
        await journal.start()
        await asyncio.gather(*(journal.record(row(house, n, tenant)) for n in range(250) for tenant in ("acme", "globex")))
        assert len(house.rows("acme")) == len(house.rows("globex")) == 250
        assert sum(ledger.groups) == 500
        assert max(ledger.groups) <= 100
        assert len(ledger.groups) < 25
        await journal.stop()

    asyncio.run(story())


def test_a_row_that_was_committed_when_the_connection_was_lost_is_not_written_twice(house: House) -> None:
    """The server's answer did not come, so that the row is tried again beside a new one; what they used is counted once."""

    class Losing(CountingLedger):
        lost = 1

        @contextmanager
        def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> Iterator[Any]:
            with self._house.ledger.work(tenant, write=write, durable=durable) as work:
                yield work
            if self.lost:
                self.lost -= 1
                raise Unavailable("the connection was lost", "try again", code="database_unreachable")

    async def story() -> None:
        journal = RequestLog(Losing(house), gateway="g")  # type: ignore[arg-type]
        await journal.start()
        first = journal.put(row(house, 1))
        await until(lambda: len(house.rows()) == 1)
        await asyncio.gather(first, journal.record(row(house, 2)))
        await journal.stop()

    asyncio.run(story())
    assert {found.id for found in house.rows()} == {"req_acme_1", "req_acme_2"}
    with house.ledger.work("acme", write=False) as work:
        assert work.usage.used("month", window_start("month", house.clock.now())).requests == 2


def test_a_ledger_that_stays_busy_is_reported_after_the_stated_time(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        journal = RequestLog(CountingLedger(house, refusals=10**6), patience=0.2)  # type: ignore[arg-type]
        await journal.start()
        with pytest.raises(Unavailable) as refused:
            await journal.record(row(house, 1))
        assert refused.value.error_code == "record_unavailable"
        await journal.stop()

    asyncio.run(story())
    assert "was not written" in caplog.text


def test_a_row_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def story() -> None:
        journal = RequestLog(house.ledger)
        latencies = (1.0, float("nan"), 1.0)
        futures = [journal.put(row(house, n).model_copy(update={"latency_ms": one})) for n, one in enumerate(latencies)]
        await journal.start()
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(each, Conflict) for each in found] == [False, True, False]
        await journal.stop()
        assert sorted(each.id for each in house.rows("acme")) == ["req_acme_0", "req_acme_2"]

    asyncio.run(story())


def used(house: House) -> Amounts:
    with house.ledger.work("acme", write=False) as work:
        return work.usage.used("month", window_start("month", house.clock.now()))


def opened(house: House, n: int) -> RequestRow:
    return row(house, n).model_copy(update={"outcome": "open", "completion_tokens": 90, "cost": 3.0})


def test_a_row_stands_from_its_opening_and_is_settled_once(house: House) -> None:
    async def story() -> None:
        journal = RequestLog(house.ledger, gateway="g")
        await journal.start()
        await journal.record(opened(house, 1))
        assert [one.outcome for one in house.rows()] == ["open"]
        assert used(house) == Amounts(1, 3, 90, 3.0)
        ended = row(house, 1).model_copy(update={"completion_tokens": 2, "cost": 0.5})
        await journal.record(ended)
        assert house.rows() == (ended,)
        assert used(house) == Amounts(1, 3, 2, 0.5)
        with pytest.raises(Conflict):
            await journal.record(row(house, 1))
        assert used(house) == Amounts(1, 3, 2, 0.5)
        with house.ledger.system(write=False) as system:
            (of_key,) = system.usage.by_others("", {}, {"day": window_start("day", house.clock.now())}).values()
        assert of_key == used(house)
        await journal.stop()

    asyncio.run(story())


def kept_words(house: House, request: str, text: str) -> KeptRequest:
    now = house.clock.now()
    return KeptRequest(KeptWords(tenant="acme", request=request, text=text, answer="", at=now, expires_at=now))


def test_long_words_are_redacted_beside_the_rows(house: House) -> None:
    looked = threading.Event()

    def redact(text: str) -> str:
        assert not text or looked.wait(30)
        return text.replace("Ada", "[NAME]")

    async def story() -> None:
        journal = RequestLog(house.ledger, redact=redact)
        await journal.start()
        long = journal.put(row(house, 1), kept_words(house, "req_acme_1", "Ada " * 2000))
        await asyncio.wait_for(journal.record(row(house, 2, "globex")), 20)
        assert not long.done()
        looked.set()
        await long
        await journal.stop()
        with house.ledger.work("acme", write=False) as work:
            kept = work.contents.get("req_acme_1")
            assert kept is not None
            assert kept.text == "[NAME] " * 2000

    asyncio.run(story())


@pytest.mark.parametrize(
    "times",
    [
        1,
    ],
)
def test_words_that_cannot_be_redacted_are_withheld(house: House, caplog: pytest.LogCaptureFixture, times: int) -> None:
    def redact(text: str) -> str:
        if "poison" in text:
            raise KeyError(text)
        return text

    async def story() -> None:
        journal = RequestLog(house.ledger, redact=redact)
        said = ["fine", "poison " * times, "half \ud800 of a pair, and \0"]
        written = [journal.put(row(house, n), kept_words(house, f"req_acme_{n}", text)) for n, text in enumerate(said)]
        await journal.start()
        await asyncio.gather(*written)
        await journal.stop()
        with house.ledger.work("acme", write=False) as work:
            kept = [work.contents.get(f"req_acme_{n}") for n in range(3)]
        assert [each and each.text for each in kept] == ["fine", WITHHELD, "half ? of a pair, and "]
        assert len(house.rows("acme")) == 3

    asyncio.run(story())
    assert "poison" not in caplog.text
