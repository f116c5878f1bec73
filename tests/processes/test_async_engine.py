"""What the engine's thread tells many callers comes to each, in order."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.ports.engine import Chunk, GenerateRequest
from tailorbird.processes.engine_process import AsyncEngine

CALLERS, PIECES = 20, 200


class TellingEngine:
    """Tells all callers from threads of its own, as soon as all have asked."""

    def __init__(self) -> None:
        self._tells: list[Any] = []
        self._ready = threading.Barrier(2)

    def submit(self, _request: GenerateRequest, tell: Any) -> Any:
        self._tells.append(tell)
        if len(self._tells) == CALLERS:
            for half in (self._tells[::2], self._tells[1::2]):
                threading.Thread(target=self._tell, args=(half,)).start()
        return lambda: None

    def _tell(self, tells: list[Any]) -> None:
        self._ready.wait(10)
        for number in range(PIECES):
            for tell in tells:
                tell(Chunk(text=f"{number} ", finish_reason="stop" if number == PIECES - 1 else None))


def test_each_caller_is_told_everything_in_order() -> None:
    async def story() -> list[str]:
        front = AsyncEngine(TellingEngine())  # type: ignore[arg-type]
        question = GenerateRequest(release=digest_of("a"), prompt=(Message(role="user", content="?"),), sampling=Sampling())

        async def ask() -> str:
            return "".join([piece.text async for piece in await front.ask(question)])

        return await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(CALLERS))), 20)

    expected = "".join(f"{number} " for number in range(PIECES))
    for _ in range(2):
        assert asyncio.run(story()) == [expected] * CALLERS
