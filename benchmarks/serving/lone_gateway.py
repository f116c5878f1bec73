"""A gateway process whose engine is a clock: ``lone_gateway.py WORKSPACE PORT CORE``. What is left is the gateway's own work.

Answers of a generator are words that tell which request and which release they are of, one every ``WORD_SECONDS``.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from support.serving import DirectDriver, House
from tailorbird.crypto.canonical_json import short
from tailorbird.ports.engine import Chunk, GenerateRequest, LabelScores, ScoreRequest
from tailorbird.processes.gateway import gateway_app
from tailorbird.processes.http_servers import Server, ended_by_signals, listen
from tailorbird.system.clock import SystemClock

WORD_SECONDS = float(os.environ.get("WORD_SECONDS", "0.1"))


class ClockDriver(DirectDriver):
    """Scores at once, and writes a word after each wait; any number of answers at a time."""

    async def score(self, request: ScoreRequest) -> LabelScores:
        even = -math.log(len(request.labels))
        return LabelScores(
            log_probabilities=(even,) * len(request.labels), prompt_tokens=len(request.prompt[-1].content.split()), latency_ms=0.0
        )

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        asked, tokens = request.prompt[-1].content, request.sampling.max_tokens
        for number in range(tokens):
            await asyncio.sleep(WORD_SECONDS)
            yield Chunk(text=f"{short(request.release)}:{asked}:{number} ")
        yield Chunk(text="", finish_reason="length", prompt_tokens=len(asked.split()), completion_tokens=tokens)


async def serve(workspace: Path, port: int) -> None:
    house = House.reopen(workspace)
    house.clock = SystemClock()  # type: ignore[assignment]
    with listen("127.0.0.1", port) as listener:
        server = Server(gateway_app(house.deps, [ClockDriver(house)]))
        with ended_by_signals(server):
            await server.serve(sockets=[listener])
    house.ledger.close()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[3])})
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
