"""The driver of OpenAI-compatible servers, against the one at hand: a gateway of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from app_kit import live

from serving_kit import House
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.foundations.canonical import digest_bytes
from tailorbird.integrations.openai_compatible import open_driver
from tailorbird.ports.engine import LoadRequest

ID = digest_bytes(b"release")
ASK = (Message(role="user", content="where is my parcel today"),)


def servable(**changes: Any) -> Servable:
    plain: dict[str, Any] = {"id": ID, "tenant": "acme", "task": TaskKind.GENERATE, "base": "base", "adapter": None, "weights": None}
    return Servable(**(plain | {"prompt": PromptSpec(instruction="")} | changes))


async def answer(driver: Any, messages: Sequence[Message], sampling: Sampling) -> list[Any]:
    return [chunk async for chunk in driver.stream(ID, messages, sampling)]


def test_answers_come_whole_with_their_counts(tmp_path: Path) -> None:
    house = House(tmp_path)
    release = house.release(task=TaskKind.GENERATE)
    house.point("assist", release)

    async def story(url: str, key: str) -> None:
        driver = open_driver(url, key, "acme/assist", lambda request: servable())
        request = LoadRequest(tenant="acme", release=ID, purpose="production")
        with pytest.raises(NotFound):
            await answer(driver, ASK, Sampling())
        await driver.load(request)
        assert await driver.ready()
        assert await driver.loaded() == (ID,)
        chunks = await answer(driver, ASK, Sampling(max_tokens=4))
        assert "".join(chunk.text for chunk in chunks).endswith("WHERE IS MY")
        assert (chunks[-1].finish_reason, chunks[-1].completion_tokens) == ("length", 4)
        with pytest.raises(InvalidInput) as refused:
            await driver.score(ID, ASK, ("a", "b"))
        assert refused.value.error_code == "scoring_unsupported"
        await driver.unload(ID)
        assert await driver.loaded() == ()
        await driver.close()

    with live(house) as running:
        asyncio.run(story(running.url, running.secret))


@pytest.mark.parametrize("changes", [{"adapter": "a"}, {"weights": "w"}, {"task": TaskKind.CLASSIFY}])
def test_what_such_a_server_cannot_serve_is_refused_at_loading(changes: dict[str, Any]) -> None:
    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "model", lambda request: servable(**changes))
        with pytest.raises(TailorbirdError) as refused:
            await driver.load(LoadRequest(tenant="acme", release=ID, purpose="production"))
        assert isinstance(refused.value, Conflict | InvalidInput)
        await driver.close()

    asyncio.run(story())


def test_a_server_that_is_not_there() -> None:
    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "model", lambda request: servable())
        await driver.load(LoadRequest(tenant="acme", release=ID, purpose="production"))
        assert not await driver.ready()
        with pytest.raises(Unavailable):
            await answer(driver, ASK, Sampling())
        await driver.close()

    asyncio.run(story())
