"""Classification by label scoring, 77 labels, four at a time: ours against vLLM on the CPU, which is asked one prompt per label."""

from __future__ import annotations

import asyncio
import time
from statistics import median

import httpx

from engines import SECRET, base_model, digest, labels, load_own, messages, own, turns, vllm
from run import Bar, Measured, say

BARS: dict[str, Bar] = {"label_scoring_vs_vllm": (3.0, 8.0, "ratio", False)}
_AT_ONCE = 4


def measure(quick: bool) -> Measured:
    times = 1 if quick else 3
    with own() as url:
        load_own(url, None)
        ours = [asyncio.run(_answers(url, 24, _ask_own)) for _ in range(times + 1)][1:]
    say(f"ours: {ours} answers/s")
    with vllm([]) as url:
        theirs = [asyncio.run(_answers(url, 4, _ask_vllm)) for _ in range(times)]
    say(f"vLLM: {theirs} answers/s")
    return Measured({"label_scoring_vs_vllm": round(median(ours) / median(theirs), 2)}, {"answers/s": {"ours": ours, "vllm": theirs}})


async def _answers(url: str, count: int, ask: object) -> float:
    work = iter(messages(count))
    async with httpx.AsyncClient(timeout=600, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:

        async def worker() -> None:
            for text in work:
                await ask(client, url, text)  # type: ignore[operator]

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
        return round(count / (time.perf_counter() - started), 3)


async def _ask_own(client: httpx.AsyncClient, url: str, text: str) -> None:
    body = {"release": digest(None), "prompt": turns(text), "labels": labels()}
    (await client.post(f"{url}/score", json=body, headers={"authorization": f"Bearer {SECRET}"})).raise_for_status()


def _prompt(text: str) -> str:
    """The rendered prompt, by the base model's own template."""
    from transformers import AutoTokenizer

    tokenizer = _prompt.__dict__.setdefault("tokenizer", AutoTokenizer.from_pretrained(base_model()))
    return str(tokenizer.apply_chat_template(turns(text), tokenize=False, add_generation_prompt=True))


async def _ask_vllm(client: httpx.AsyncClient, url: str, text: str) -> None:
    """All labels of one message in one request, a prompt for each: echoed with log-probabilities, nothing generated beyond one token."""
    prompts = [f"{_prompt(text)}{label}<|im_end|>" for label in labels()]
    body = {"model": "base", "prompt": prompts, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0, "add_special_tokens": False}
    response = await client.post(f"{url}/v1/completions", json=body)
    response.raise_for_status()
    assert len(response.json()["choices"]) == len(prompts)
