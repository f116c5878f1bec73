"""Streams end with their client: the generator is closed, the work cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from tailorbird.api import ClosingStream, unless_gone


def request_that_leaves(gone: asyncio.Event) -> Request:
    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def test_work_is_cancelled_when_the_client_leaves_first() -> None:
    async def run() -> bool:
        gone, cancelled = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                gone.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        with pytest.raises(ClientDisconnect):
            await unless_gone(request_that_leaves(gone), work())
        return cancelled.is_set()

    assert asyncio.run(run())


def test_a_result_and_an_error_come_back_to_a_client_that_stays() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    async def run() -> int:
        request = request_that_leaves(asyncio.Event())
        with pytest.raises(ValueError, match="broken"):
            await unless_gone(request, fails())
        return await unless_gone(request, asyncio.sleep(0, result=42))

    assert asyncio.run(run()) == 42


@pytest.mark.parametrize("sends", [1, 100])
def test_the_generator_is_closed_however_sending_ends(sends: int) -> None:
    closed: list[bool] = []

    async def pieces() -> AsyncGenerator[str, None]:
        try:
            for piece in ("a", "b", "c"):
                yield piece
        finally:
            closed.append(True)

    async def run() -> list[bytes]:
        sent: list[bytes] = []

        async def send(message: Message) -> None:
            if len(sent) >= sends:
                raise OSError("the client has left")
            if message.get("body"):
                sent.append(message["body"])

        rest = pieces()
        stream = ClosingStream(await anext(rest), rest, "text/plain")
        if sends == 1:
            with pytest.raises(OSError, match="left"):
                await stream.stream_response(send)
        else:
            await stream.stream_response(send)
        assert closed == [True]
        return sent

    assert b"".join(asyncio.run(run())) == (b"a" if sends == 1 else b"abc")
