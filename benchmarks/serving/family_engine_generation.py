"""Answers of 32 tokens, 16 at a time: ours, through the gateway, against vLLM on the CPU, with the base, one adapter, eight, and 32."""

from __future__ import annotations

from statistics import median
from typing import Any

from engines import adapters, alternating, asks_vllm, rounds, vllm
from own import asks_own, own
from run import Bar, Measured

BARS: dict[str, Bar] = {
    "eight_adapters_vs_vllm": (2.0, 4.0, "ratio", False),
    "base_vs_vllm": (0.9, 1.4, "ratio", False),
    "loss_from_1_to_32_adapters": (0.25, 0.10, "share", True),
}


def measure(quick: bool) -> Measured:
    times, folders = (1 if quick else 3), adapters(32)
    found: dict[str, Any] = ours(2 if quick else 3)
    with vllm([]) as url:
        found["vllm base"] = rounds("vLLM base", asks_vllm(url), [None], times=times)
    with vllm(folders[:8]) as url:
        found["vllm eight"] = rounds("vLLM eight adapters", asks_vllm(url), range(8), times=times)
    middle = {name: median(values) for name, values in found.items()}
    values = {
        "eight_adapters_vs_vllm": middle["eight"] / middle["vllm eight"],
        "base_vs_vllm": middle["base"] / middle["vllm base"],
        "loss_from_1_to_32_adapters": 1 - middle["32 at once, 32 adapters"] / middle["32 at once, one adapter"],
    }
    return Measured({name: round(value, 3) for name, value in values.items()}, {"output tokens/s": found})


def ours(times: int) -> dict[str, Any]:
    with own(32) as server:
        ask = asks_own(server)
        return {
            "base": rounds("ours base", ask, [None], times=times),
            "one": rounds("ours one adapter", ask, [0], times=times),
            "eight": rounds("ours eight adapters", ask, range(8), times=times),
            **alternating(ask, {"32 at once, one adapter": [0], "32 at once, 32 adapters": range(32)}, 32, 2 if times < 3 else 7),
        }
