"""Streaming responses that stop when the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Send

T = TypeVar("T")


class ClosingStream(StreamingResponse):
    """A streaming response that closes its generator at once when the client leaves, not when the garbage collector finds it."""

    def __init__(self, first: str, rest: AsyncGenerator[str, None], media_type: str, headers: Mapping[str, str] | None = None) -> None:
        """``first`` was already taken from ``rest``: a generator that has begun runs its clean-up when it is closed, another does not."""
        self._rest = rest
        self._whole = _chained(first, rest)
        super().__init__(self._whole, media_type=media_type, headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Sends every piece; closes the generator however that ends."""
        async with aclosing(self._rest), aclosing(self._whole):
            await super().stream_response(send)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``. When the client leaves first, ``work`` is cancelled and ClientDisconnect raised.

    The body of ``request`` must have been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _chained(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    yield first
    async for piece in rest:
        yield piece


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
