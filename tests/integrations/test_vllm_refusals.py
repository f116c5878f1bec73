"""What the driver of vLLM refuses without asking the server, and a server that is not there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.drivers import answer, request, servable
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.integrations.vllm import open_driver
from tailorbird.ports.engine import LoadRequest

ID = servable("release").id


@pytest.mark.parametrize("changes", [{"weights": "w"}, {"task": TaskKind.CLASSIFY}])
def test_what_such_a_server_cannot_serve_is_refused_at_loading(changes: dict[str, Any]) -> None:
    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "model", lambda _: servable("release", **changes))
        with pytest.raises(TailorbirdError) as refused:
            await driver.load(request(ID))
        assert isinstance(refused.value, Conflict | InvalidInput)
        await driver.close()

    asyncio.run(story())


def test_a_server_that_is_not_there() -> None:
    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "model", lambda _: servable("release"))
        await driver.load(request(ID))
        with pytest.raises(Unavailable):
            await answer(driver, ID, "hello")
        with pytest.raises(Unavailable):
            await driver.status()
        await driver.close()

    asyncio.run(story())


def test_each_load_is_admitted_for_what_it_is_for() -> None:
    admitted = list[str]()

    def admit(wanted: LoadRequest) -> Servable:
        admitted.append(wanted.purpose)
        return servable("release")

    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "model", admit)
        for purpose in ("staging", "production"):
            await driver.load(LoadRequest.model_validate({"tenant": "acme", "release": ID, "purpose": purpose}))
        await driver.close()

    asyncio.run(story())
    assert admitted == ["staging", "production"]
