"""Many streams at once: every one whole, in order, and of its own request."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

from loading import Lone, lone_gateway, stream
from run import Bar, Measured

BARS: dict[str, Bar] = {
    "streams_at_once_without_fault": (200, 500, "streams", False),
    "stream_faults": (0, 0, "streams", True),
}
_TOKENS = 20


def measure(quick: bool) -> Measured:
    with lone_gateway(word_seconds=0.2) as lone:
        found = asyncio.run(_load(lone, 200, 20 if quick else 60))
        more = None if quick else asyncio.run(_load(lone, 500, 20))
    good = 500 if more and not more["faults"] else 200 if not found["faults"] else 0
    return Measured({"streams_at_once_without_fault": good, "stream_faults": found["faults"]}, {"200": found, "500": more})


async def _load(lone: Lone, clients: int, seconds: float) -> dict[str, Any]:
    """``clients`` ask one stream after the other for ``seconds``."""
    until = time.monotonic() + seconds
    results = await asyncio.gather(*(_client(lone, number, until) for number in range(clients)))
    waits = [wait for told, _, _ in results for wait in told]
    faults = [fault for _, _, wrong in results for fault in wrong]
    return {
        "seconds": seconds,
        "streams": sum(done for _, done, _ in results),
        "faults": len(faults),
        "first_faults": faults[:5],
        "first_token_median_ms": round(1000 * median(waits), 1),
    }


async def _client(lone: Lone, number: int, until: float) -> tuple[list[float], int, list[str]]:
    waits, done, wrong = [], 0, []
    while time.monotonic() < until:
        name, started, text = f"client{number}stream{done}", time.perf_counter(), ""
        try:
            async for event in stream(lone, name, _TOKENS):
                piece = event["choices"][0]["delta"].get("content", "")
                if piece and not text:
                    waits.append(time.perf_counter() - started)
                text += piece
            words = text.split()
            if [word.split(":", 1)[1] for word in words] != [f"{name}:{index}" for index in range(_TOKENS)]:
                wrong.append(f"{name}: {len(words)} words, or not its own")
        except (OSError, RuntimeError) as error:
            wrong.append(f"{name}: {error}")
        done += 1
    return waits, done, wrong
