"""Adapters that come and go, through the gateway: from the move of a name to the first token, the proof of its effect included, and what
its neighbours lose meanwhile; a thousand names under a budget, asked as Zipf says."""

from __future__ import annotations

import asyncio
import json
import random
import time
from statistics import median, quantiles

import httpx
from engines import messages
from own import Own, name_of, own
from run import Bar, Measured, say

BARS: dict[str, Bar] = {
    "adapter_hot_load_ms": (300, 100, "ms", True),
    "neighbours_pace_meanwhile": (0.8, 0.95, "ratio", False),
    "memory_over_budget": (0, 0, "bytes", True),
}
_REGISTERED, _REQUESTS, _BUDGET_MB, _NEW = 1000, 600, 1536, 9
#: Adapters that answer all the time while others come, and the seconds over which their pace before is taken.
_NEIGHBOURS, _BEFORE = 4, 1.5
#: Seconds after which a name that does not answer yet is asked again; beside neighbours seldom, since asking takes from them, too.
_AGAIN, _SELDOM = 0.005, 0.05


def measure(quick: bool) -> Measured:
    registered = 100 if quick else _REGISTERED
    with own(registered, _BUDGET_MB, later=2 * _NEW) as server:
        say("every name answers")
        hot, pace, waits = asyncio.run(_asked(server, registered, 100 if quick else _REQUESTS))
        state = server.engine_state()
    asked = sum(one["requests"] for one in state["releases"])
    missed = sum(max(0, one["loads"] - 1) for one in state["releases"])
    detail = {
        "hot_load_ms": [round(1000 * value, 1) for value in hot],
        "pace of neighbours meanwhile": [round(value, 3) for value in pace],
        "registered": registered,
        "resident": sum(one["resident"] for one in state["releases"]),
        "hit_rate": round(1 - missed / asked, 3),
        "first_token_p50_ms": round(1000 * median(waits), 1),
        "first_token_p95_ms": round(1000 * quantiles(waits, n=20)[-1], 1),
        "memory_used": state["memory_used"],
        "memory_budget": state["memory_budget"],
    }
    over = max(0, state["memory_used"] - state["memory_budget"])
    values = {"adapter_hot_load_ms": round(1000 * median(hot), 1), "neighbours_pace_meanwhile": round(median(pace), 3)}
    return Measured(values | {"memory_over_budget": over}, detail)


async def _asked(server: Own, registered: int, count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of hot loads, and until the first token under Zipf traffic. One client asks all: making one takes tens of milliseconds."""
    async with httpx.AsyncClient(timeout=60, trust_env=False, headers=server.head, base_url=server.url) as client:
        await _first_token(client, "base")
        hot = [await _hot_load(server, client, registered + number) for number in range(_NEW)]
        say(f"hot loads: {[round(1000 * value) for value in hot]} ms")
        pace = await _beside_neighbours(server, client, range(registered + _NEW, registered + 2 * _NEW))
        say(f"pace of neighbours meanwhile: {[round(value, 2) for value in pace]}")
        return hot, pace, await _zipf(client, registered, count)


async def _hot_load(server: Own, client: httpx.AsyncClient, adapter: int) -> float:
    """From the commit that points a new name to a release which no engine has seen, until its first token is here."""
    await asyncio.sleep(random.uniform(0.3, 0.6))  # at no fixed distance from the gateway's looks
    server.point(adapter)
    return await _first_token(client, name_of(adapter))


async def _beside_neighbours(server: Own, client: httpx.AsyncClient, new: range) -> list[float]:
    """For each new adapter: tokens a second of adapters that answer all the time, from its name's move to its first token ÷ before."""
    seen: list[float] = []

    async def neighbour(adapter: int) -> None:
        body = {"model": f"acme/{name_of(adapter)}", "messages": [{"role": "user", "content": messages()[adapter]}], "max_tokens": 64}
        while True:
            async with client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        seen.append(time.perf_counter())

    tasks = [asyncio.create_task(neighbour(adapter)) for adapter in range(_NEIGHBOURS)]
    pace = []
    for adapter in new:
        await asyncio.sleep(_BEFORE + random.uniform(0.3, 0.6))
        started = time.perf_counter()
        server.point(adapter)
        await _first_token(client, name_of(adapter), again=_SELDOM)
        ended = time.perf_counter()
        before = sum(started - _BEFORE <= each < started for each in seen) / _BEFORE
        pace.append(sum(started <= each < ended for each in seen) / (ended - started) / before)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return pace


async def _first_token(client: httpx.AsyncClient, name: str, text: str = "Where is my card?", again: float = _AGAIN) -> float:
    """Seconds until the first event; a name that does not answer yet is asked again after ``again`` seconds."""
    started = time.perf_counter()
    body = {"model": f"acme/{name}", "messages": [{"role": "user", "content": text}], "max_tokens": 2, "stream": True}
    while time.perf_counter() - started < 60:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code in (404, 503):
                await response.aread()
                await asyncio.sleep(again)
                continue
            response.raise_for_status()
            first = None
            async for line in response.aiter_lines():
                if first is None and line.startswith("data: {"):
                    assert "choices" in json.loads(line[6:]), line
                    first = time.perf_counter() - started
            if first is not None:
                return first
    raise RuntimeError("no token")


async def _zipf(client: httpx.AsyncClient, registered: int, count: int) -> list[float]:
    draw = random.Random(1)
    weights = [1 / (place + 1) for place in range(registered)]
    work = iter(list(zip(draw.choices(range(registered), weights, k=count), messages(48) * (count // 48 + 1), strict=False)))
    waits: list[float] = []

    async def worker() -> None:
        for adapter, text in work:
            waits.append(await _first_token(client, name_of(adapter), text))

    await asyncio.gather(*(worker() for _ in range(4)))
    return waits
