"""The engine over its wire: what the driver gets is what the engine said, errors included; nobody else gets anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from support.doubles import MemoryEngine
from support.processes import SECRET, engine_server, wait_until
from support.serving import ASK, LABELS, House, scoring, writing
from tailorbird.domain.errors import Forbidden, NotFound, TooLarge, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.loopback import open_driver
from tailorbird.ports.engine import EngineDriver, LabelScores, LoadRequest


def talk(url: str, story: Any, secret: str = SECRET) -> Any:
    async def run() -> Any:
        driver = open_driver(url, secret)
        try:
            return await story(driver)
        finally:
            await driver.close()

    return asyncio.run(run())


def request(release: Digest) -> LoadRequest:
    return LoadRequest(tenant="acme", release=release, purpose="production")


def test_a_release_is_loaded_asked_and_unloaded(house: House) -> None:
    release = house.release(task=TaskKind.GENERATE)
    twin = MemoryEngine()
    twin.load(house.admit(request(release)))

    async def story(driver: EngineDriver) -> None:
        assert await driver.status()
        await driver.load(request(release))
        await driver.load(request(release))
        assert (await driver.status()).loaded == (release,)
        scores = await driver.ask(scoring(release, ASK, LABELS))
        assert scores.log_probabilities == twin.score(release, [ASK], LABELS)[0].log_probabilities
        chunks = [chunk async for chunk in await driver.ask(writing(release, ASK, Sampling(max_tokens=3)))]
        (expected,) = twin.generate(release, [ASK], Sampling(max_tokens=3))
        assert "".join(chunk.text for chunk in chunks) == expected.text
        assert (chunks[-1].finish_reason, chunks[-1].completion_tokens, chunks[-1].prompt_tokens) == ("length", 3, expected.prompt_tokens)
        await driver.unload(release)
        assert (await driver.status()).loaded == ()

    with engine_server(house) as url:
        talk(url, story)


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("not approved", "ask an approver", code="not_approved"),
        TooLarge("too large", "shrink it", param="messages"),
        Unavailable("busy", "wait", retry_after=2.0),
    ],
)
def test_an_error_crosses_the_wire_whole(house: House, error: Any) -> None:
    house.refusals[release := house.release()] = error

    async def story(driver: EngineDriver) -> None:
        with pytest.raises(type(error)) as raised:
            await driver.load(request(release))
        assert raised.value.as_dict() == error.as_dict()
        with pytest.raises(NotFound) as missing:
            await driver.ask(scoring(release, ASK, LABELS))
        assert missing.value.error_code == "not_loaded"
        with pytest.raises(NotFound):
            await anext(await driver.ask(writing(release, ASK, Sampling())))

    with engine_server(house) as url:
        talk(url, story)


def test_without_the_secret_every_door_is_shut(house: House) -> None:
    async def story(driver: EngineDriver) -> None:
        with pytest.raises(Unavailable) as refused:
            await driver.status()
        assert refused.value.error_code == "engine_secret"

    with engine_server(house) as url:
        talk(url, story, secret="wrong")
        for method, path in [
            ("GET", "/status"),
            ("POST", "/load"),
            ("POST", "/score"),
            ("POST", "/generate"),
            ("POST", "/unload"),
        ]:
            assert httpx.request(method, url + path, content=b"{}").status_code == 401
            assert httpx.request(method, url + path, content=b"{}", headers={"authorization": "Bearer ünknown".encode()}).status_code == 401
        assert httpx.get(url + "/openapi.json").status_code == 404


class CountingEngine(MemoryEngine):
    """Counts the words it makes and the prompts of each scoring call."""

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(delay)
        self.made, self.batches = 0, list[int]()
        self.hold = threading.Event()
        self.hold.set()

    def generate(self, servable: Any, prompts: Any, sampling: Any, on_text: Any = None) -> Any:
        def counted(index: int, text: str) -> bool:
            self.made += 1
            return bool(on_text(index, text))

        return super().generate(servable, prompts, sampling, counted)

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        self.batches.append(len(prompts))
        self.hold.wait(5)
        return super().score(servable, prompts, labels)


LONG = (Message(role="user", content="word " * 1000),)


def test_a_driver_that_hangs_up_stops_the_generation(house: House) -> None:
    release = house.release(task=TaskKind.GENERATE)
    engine = CountingEngine(delay=0.01)

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(release))
        async with aclosing(await driver.ask(writing(release, LONG, Sampling(max_tokens=1000)))) as chunks:
            async for _ in chunks:
                break
        assert (await driver.ask(scoring(release, ASK, LABELS))).prompt_tokens == 4

    with engine_server(house, engine) as url:
        talk(url, story)
    assert 1 <= engine.made < 100


def test_a_busy_engine_still_says_what_it_holds(house: House) -> None:
    release, engine, before = house.release(), CountingEngine(), threading.active_count()

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(release))
        engine.hold.clear()
        asking = asyncio.ensure_future(driver.ask(scoring(release, ASK, LABELS)))
        while not engine.batches:
            await asyncio.sleep(0.01)
        assert (await asyncio.wait_for(driver.status(), 2)).loaded == (release,)
        engine.hold.set()
        await asking

    with engine_server(house, engine) as url:
        talk(url, story)
    wait_until(lambda: threading.active_count() <= before + 2)
