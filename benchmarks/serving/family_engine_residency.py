"""Adapters that come and go: from the store to the first token; a thousand registered ones under a budget, asked as Zipf says."""

from __future__ import annotations

import asyncio
import json
import random
import time
from statistics import median, quantiles

import httpx

from engines import SECRET, WORK, adapters, digest, load_own, messages, own, turns
from run import Bar, Measured, say

BARS: dict[str, Bar] = {
    "adapter_hot_load_ms": (300, 100, "ms", True),
    "memory_over_budget": (0, 0, "bytes", True),
}
_REGISTERED, _REQUESTS, _BUDGET_MB = 1000, 600, 1536


def measure(quick: bool) -> Measured:
    registered = 100 if quick else _REGISTERED
    _register(registered)
    with own(_BUDGET_MB) as url:
        load_own(url, None)
        asyncio.run(_first_token(url, None))
        hot = [_hot_load(url, adapter) for adapter in range(5)]
        say(f"hot loads: {[round(1000 * value) for value in hot]} ms")
        for adapter in range(5, registered):
            load_own(url, adapter)
        waits = asyncio.run(_zipf(url, registered, 100 if quick else _REQUESTS))
        state = httpx.get(f"{url}/state", headers={"authorization": f"Bearer {SECRET}"}).json()
    asked = sum(one["requests"] for one in state["releases"])
    missed = sum(max(0, one["loads"] - 1) for one in state["releases"])
    detail = {
        "hot_load_ms": [round(1000 * value, 1) for value in hot],
        "registered": registered,
        "resident": sum(one["resident"] for one in state["releases"]),
        "hit_rate": round(1 - missed / asked, 3),
        "first_token_p50_ms": round(1000 * median(waits), 1),
        "first_token_p95_ms": round(1000 * quantiles(waits, n=20)[-1], 1),
        "memory_used": state["memory_used"],
        "memory_budget": state["memory_budget"],
    }
    over = max(0, state["memory_used"] - state["memory_budget"])
    return Measured({"adapter_hot_load_ms": round(1000 * median(hot), 1), "memory_over_budget": over}, detail)


def _register(count: int) -> None:
    """Folders 8 and up are links to the first eight: a thousand names, and a thousand copies in memory where they are loaded."""
    first = adapters(32)
    for number in range(32, count):
        folder = WORK / "adapters" / str(number)
        folder.mkdir(exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            place = folder / name
            if not place.exists():
                place.hardlink_to(first[number % 32] / name)


def _hot_load(url: str, adapter: int) -> float:
    started = time.perf_counter()
    load_own(url, adapter)
    asyncio.run(_first_token(url, adapter))
    return time.perf_counter() - started


async def _first_token(url: str, adapter: int | None, text: str = "Where is my card?") -> float:
    started = time.perf_counter()
    body = {"release": digest(adapter), "prompt": turns(text), "sampling": {"max_tokens": 2}}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        async with client.stream("POST", f"{url}/generate", json=body, headers={"authorization": f"Bearer {SECRET}"}) as response:
            async for line in response.aiter_lines():
                if "error" in json.loads(line):
                    raise RuntimeError(line)
                return time.perf_counter() - started
    raise RuntimeError("no token")


async def _zipf(url: str, registered: int, count: int) -> list[float]:
    draw = random.Random(1)
    weights = [1 / (place + 1) for place in range(registered)]
    work = iter(list(zip(draw.choices(range(registered), weights, k=count), messages(48) * (count // 48 + 1), strict=False)))
    waits: list[float] = []

    async def worker() -> None:
        for adapter, text in work:
            waits.append(await _first_token(url, adapter, text))

    await asyncio.gather(*(worker() for _ in range(4)))
    return waits
