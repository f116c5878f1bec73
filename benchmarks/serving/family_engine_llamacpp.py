"""Ours, through the gateway, against llama.cpp's own server, over HTTP, in turns: one request at a time, 16 at a time, eight adapters
mixed,
and the time to the first token of a prompt of 1,000 tokens.

Ours computes in bf16, and with weights in int8; llama.cpp computes its Q4_1 file, which the base model comes from, and our exports in q8_0
and bf16. The bars compare with the fastest of its forms, each precision of ours by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import httpx
from engines import Ask, rate, turns
from llamacpp import asks_llama_cpp, exported, exported_adapters, llama_cpp, q4_1
from own import Own, asks_own, own
from run import Bar, Measured, say

_RATES: dict[str, Bar] = {
    "sixteen_vs_llama_cpp": (2.4, 3.0, "ratio", False),
    "one_vs_llama_cpp": (1.0, 1.3, "ratio", False),
    "eight_adapters_vs_llama_cpp": (6.0, 10.0, "ratio", False),
    "first_token_vs_llama_cpp": (1.0, 0.7, "ratio", True),
}
PRECISIONS = ("bf16", "int8")
BARS = {f"{name}_{precision}": bar for name, bar in _RATES.items() for precision in PRECISIONS}
#: (requests at a time, adapters asked for) of each setting.
SETTINGS: dict[str, tuple[int, list[int | None]]] = {"sixteen": (16, [None]), "one": (1, [None]), "eight_adapters": (16, list(range(8)))}
_COUNT = {"sixteen": 48, "one": 6, "eight_adapters": 48}


def measure(quick: bool) -> Measured:
    times = 2 if quick else 7
    with ExitStack() as stack:
        asks: dict[str, Ask] = {}
        streams: dict[str, Callable[[httpx.AsyncClient, str], Awaitable[None]]] = {}
        for precision in PRECISIONS:
            server = stack.enter_context(own(8, precision=precision))
            asks[f"ours {precision}"], streams[f"ours {precision}"] = asks_own(server), _streams_own(server)
        loras = exported_adapters(8)
        for name, model in {"q4_1": q4_1(), "q8_0": exported("q8_0"), "bf16": exported("bf16")}.items():
            url = stack.enter_context(llama_cpp(model, loras))
            asks[f"llama.cpp {name}"], streams[f"llama.cpp {name}"] = asks_llama_cpp(url), _streams_llama_cpp(url)
        rates = {setting: _rates(setting, asks, times) for setting in SETTINGS}
        first = _first_tokens(streams, times)
    values = {}
    for setting, found in rates.items():
        best = max(median(each) for name, each in found.items() if name.startswith("llama"))
        values |= {f"{setting}_vs_llama_cpp_{precision}": median(found[f"ours {precision}"]) / best for precision in PRECISIONS}
    best = min(median(each) for name, each in first.items() if name.startswith("llama"))
    values |= {f"first_token_vs_llama_cpp_{precision}": median(first[f"ours {precision}"]) / best for precision in PRECISIONS}
    detail: dict[str, Any] = {"output tokens/s": rates, "seconds to the first token of 1,000": first}
    return Measured({name: round(value, 3) for name, value in values.items()}, detail)


def _rates(setting: str, asks: dict[str, Ask], times: int) -> dict[str, list[float]]:
    at_once, kinds = SETTINGS[setting]
    found: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(times + 1):
        for name, ask in asks.items():
            made = rate(ask, kinds, at_once, _COUNT[setting])
            if number:
                found[name].append(round(made, 1))
    for name, values in found.items():
        say(f"{setting}: {name}: {', '.join(f'{value:.0f}' for value in values)} tokens/s")
    return found


def _first_tokens(streams: dict[str, Callable[[httpx.AsyncClient, str], Awaitable[None]]], times: int) -> dict[str, list[float]]:
    """Prompts that no other begins like, so that nothing of them is remembered."""
    found: dict[str, list[float]] = {name: [] for name in streams}
    for number in range(times + 1):
        for name, stream in streams.items():
            text = f"{number} {name}: " + "The parcel of order 1042 came late, and nobody answers my letters. " * 62
            took = asyncio.run(_timed(stream, text))
            if number:
                found[name].append(round(took, 3))
    for name, values in found.items():
        say(f"first token: {name}: {', '.join(f'{value:.2f}' for value in values)} s")
    return found


async def _timed(stream: Callable[[httpx.AsyncClient, str], Awaitable[None]], text: str) -> float:
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        started = time.perf_counter()
        await stream(client, text)
        return time.perf_counter() - started


def _streams_own(server: Own) -> Callable[[httpx.AsyncClient, str], Awaitable[None]]:
    async def stream(client: httpx.AsyncClient, text: str) -> None:
        body = {"model": "acme/base", "messages": [{"role": "user", "content": text}], "max_tokens": 2, "stream": True}
        await _first(client, f"{server.url}/v1/chat/completions", body, server.head)

    return stream


def _streams_llama_cpp(url: str) -> Callable[[httpx.AsyncClient, str], Awaitable[None]]:
    async def stream(client: httpx.AsyncClient, text: str) -> None:
        body = {"model": "base", "messages": turns(text), "max_tokens": 2, "temperature": 0, "stream": True}
        await _first(client, f"{url}/v1/chat/completions", body, {})

    return stream


async def _first(client: httpx.AsyncClient, url: str, body: dict[str, Any], head: dict[str, str]) -> None:
    """Until a piece of the answer with text comes."""
    async with client.stream("POST", url, json=body, headers=head) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data: {") and '"content":"' in line.replace(" ", "") and '"content":""' not in line.replace(" ", ""):
                return
    raise RuntimeError("no text came")
