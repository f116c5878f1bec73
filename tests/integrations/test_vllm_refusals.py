"""What the driver of vLLM refuses without asking the server, and a server that is not there."""

from __future__ import annotations

import asyncio

import pytest

from support.drivers import answer, request, servable
from tailorbird.domain.errors import Unavailable
from tailorbird.integrations.vllm import open_driver

ID = servable("release").id


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
