"""Classification by label scoring, 77 labels, four at a time: ours, through the gateway, against vLLM on the CPU, which is asked one prompt
per label."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

import httpx
from engines import base_model, labels, messages, vllm
from own import SORTING, own
from run import Bar, Measured, say

BARS: dict[str, Bar] = {"label_scoring_vs_vllm": (3.0, 8.0, "ratio", False)}
_AT_ONCE = 4
_Ask = Callable[[httpx.AsyncClient, str], Awaitable[None]]


def measure(quick: bool) -> Measured:
    times = 1 if quick else 3
    with own(0) as server:

        async def ask_own(client: httpx.AsyncClient, text: str) -> None:
            body = {"model": "acme/sorting", "messages": [{"role": "user", "content": text}]}
            answer = await client.post(f"{server.url}/v1/chat/completions", json=body, headers=server.head)
            assert len(answer.raise_for_status().json()["tailorbird"]["probabilities"]) == 77

        asyncio.run(_answers(ask_own, 8))
        ours = [asyncio.run(_answers(ask_own, 24)) for _ in range(times)]
    say(f"ours: {ours} answers/s")
    with vllm([]) as url:
        ask_vllm = asks_vllm(url)
        asyncio.run(_answers(ask_vllm, 1))
        theirs = [asyncio.run(_answers(ask_vllm, 4)) for _ in range(times)]
    say(f"vLLM: {theirs} answers/s")
    return Measured({"label_scoring_vs_vllm": round(median(ours) / median(theirs), 2)}, {"answers/s": {"ours": ours, "vllm": theirs}})


async def _answers(ask: _Ask, count: int) -> float:
    work = iter(messages(count))
    async with httpx.AsyncClient(timeout=600, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:

        async def worker() -> None:
            for text in work:
                await ask(client, text)

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
        return round(count / (time.perf_counter() - started), 3)


def asks_vllm(url: str) -> _Ask:
    """All labels of one message in one request, a prompt for each: echoed with log-probabilities, nothing generated beyond one token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model())

    async def ask(client: httpx.AsyncClient, text: str) -> None:
        turns = [{"role": "system", "content": SORTING}, {"role": "user", "content": text}]
        asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        prompts = [f"{asked}{label}<|im_end|>" for label in labels()]
        body = {"model": "base", "prompt": prompts, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        answer = await client.post(f"{url}/v1/completions", json=body | {"add_special_tokens": False})
        assert len(answer.raise_for_status().json()["choices"]) == len(prompts)

    return ask
