"""Number formats of our engine in process: how far the next-token distributions lie from those of fp32, and the pace of a step.

Distributions: 700 tokens of the README, read at once, by the base model alone; KL divergence in nats. Pace: steps in which each row of a
batch adds one token to a context of 40, in turns, the fastest of eight.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from engines import ROOT, base_model
from run import Bar, Measured, say
from transformers import AutoTokenizer

from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.weights import place
from tailorbird.inference.forward_factory import Kernels, reader_of_decoders
from tailorbird.inference.scheduling import BLOCK

BARS: dict[str, Bar] = {"int8_divergence": (0.005, 0.002, "nats", True)}
#: (precision, kernels) of each form.
FORMS: dict[str, tuple[Any, Kernels]] = {
    "bf16 native": ("bf16", "native"),
    "int8 native": ("int8", "native"),
    "bf16 plain": ("bf16", "plain"),
}
_TOKENS, _CONTEXT = 700, 40


def measure(quick: bool) -> Measured:
    forwards = {name: reader_of_decoders(place(precision), kernels)(base_model()) for name, (precision, kernels) in FORMS.items()}
    divergences = _divergences(forwards)
    rows = (1, 16) if quick else (1, 2, 4, 8, 16, 64, 256)
    native = {name: forward for name, forward in forwards.items() if name.endswith("native")}
    pace = {count: _pace(native, count) for count in rows}
    detail = {
        "KL from fp32, nats": divergences,
        "tokens/s by rows of a step": pace,
        "MB of weights": {name: round(forward.nbytes / 1e6) for name, forward in forwards.items()},
    }
    return Measured({"int8_divergence": divergences["int8 native"]["mean"]}, detail)


def _divergences(forwards: dict[str, Any]) -> dict[str, dict[str, float]]:
    tokens = AutoTokenizer.from_pretrained(base_model())((ROOT / "README.md").read_text(encoding="utf-8"))["input_ids"][:_TOKENS]

    def read(forward: Any) -> torch.Tensor:
        blocks = list(range(-(-len(tokens) // BLOCK)))
        batch = build_batch([Part(None, tokens, 0, blocks, 0)])._replace(wants=np.arange(len(tokens), dtype=np.int32))
        return forward.logits(forward.hidden(batch, forward.memory(len(blocks)))).float().log_softmax(-1)

    exact = read(reader_of_decoders(place("fp32"), "plain")(base_model()))
    told = {}
    for name, forward in forwards.items():
        found = read(forward)
        each = (exact.exp() * (exact - found)).sum(-1)
        same = (exact.argmax(-1) == found.argmax(-1)).float().mean()
        told[name] = {
            "mean": round(each.mean().item(), 5),
            "p99": round(each.quantile(0.99).item(), 4),
            "same likeliest": round(same.item(), 3),
        }
        say(f"{name}: {told[name]}")
    return told


def _pace(forwards: dict[str, Any], rows: int) -> dict[str, float]:
    each = -(-(_CONTEXT + 1) // BLOCK)
    memories = {name: forward.memory(rows * each) for name, forward in forwards.items()}
    batch = build_batch(Part(None, [100 + at % 1000], _CONTEXT, list(range(at * each, (at + 1) * each)), 0) for at in range(rows))
    took: dict[str, list[float]] = {name: [] for name in forwards}
    for _ in range(9):
        for name, forward in forwards.items():
            started = time.perf_counter()
            for _ in range(3):
                forward.logits(forward.hidden(batch, memories[name]))
            took[name].append((time.perf_counter() - started) / 3)
    found = {name: round(rows / min(seconds[1:]), 1) for name, seconds in took.items()}
    say(f"{rows} rows: {found} tokens/s")
    return found
