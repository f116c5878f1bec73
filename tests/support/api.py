"""The public application in this process, asked over ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from support.serving import DirectDriver, House
from tailorbird.processes.gateway import gateway_app

CHAT = "/v1/chat/completions"
ASK = {"model": "acme/routing", "messages": [{"role": "user", "content": "I lost my card"}]}


@asynccontextmanager
async def gateway(house: House, driver: DirectDriver, *, ready: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running gateway; with ``ready``, every alias of the record answers already."""
    app = gateway_app(house.deps, [driver])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        while ready and (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
        yield client


def ask(house: House, story: Callable[[httpx.AsyncClient], Awaitable[Any]], driver: DirectDriver | None = None) -> Any:
    """Runs ``story`` with a client that holds a key of acme."""
    _, secret = house.key()

    async def run() -> Any:
        async with gateway(house, driver or DirectDriver(house)) as client:
            client.headers["authorization"] = f"Bearer {secret}"
            return await story(client)

    return asyncio.run(run())


def post(house: House, body: Any, driver: DirectDriver | None = None) -> httpx.Response:
    """The answer to one chat completion request; ``body`` is JSON-able, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(house, lambda client: client.post(CHAT, content=content), driver)


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream; ``[DONE]`` stays a string."""
    told = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in told]
