"""Serving on a GPU: the same answers as on a processor, on a simulated GPU here and on a real one by ``make gpu``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from support.family_checks import LABELS, TEXTS, Theirs, write_adapter
from support.machines import MACHINES, gpu_of, without_gpu
from support.model_families import write_family
from support.oracle import conversation, servable
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import open_engine
from tailorbird.inference.forward.weights import place

#: By the written-out pass, and by transformers': windows, capped logits, sinks and experts, states that run.
FAMILIES = [
    "gpt_oss",
]
PROMPTS = [conversation(text, "Name the intent.") for text in TEXTS]
SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}'


def told(base: Path, adapters: list[Path], precision: Any = "fp32") -> list[Any]:
    """What an engine says to each kind of request: of the base and of two adapters, several at a time."""
    engine: Any = open_engine(precision, kv_mb=64)
    try:
        found: list[Any] = []
        for one in [servable(base), *(servable(base, path.name, adapter=path) for path in adapters)]:
            engine.load(one)
            found += [scored.log_probabilities for scored in engine.score(one.id, PROMPTS, LABELS)]
            for sampling in (Sampling(max_tokens=8), Sampling(max_tokens=6, temperature=0.9, top_p=0.8, seed=5)):
                found += [answer.text for answer in engine.generate(one.id, PROMPTS, sampling)]
            found += [round(each.nats, 2) for each in engine.likelihood(one.id, PROMPTS, ["card", "lost", "top up"])]
        found += [answer.text for answer in engine.generate(servable(base).id, PROMPTS[:1], Sampling(max_tokens=24, json_schema=SCHEMA))]
        return found
    finally:
        engine.close()


def same(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            assert one == pytest.approx(other, abs=5e-3)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_processor(machine: str, family: str, tmp_path: Path) -> None:
    base = write_family(tmp_path / "base", family)
    theirs = Theirs(base, family)
    for seed in (1, 2):
        write_adapter(base, theirs, tmp_path / f"adapter{seed}", seed)
    adapters = [tmp_path / "adapter1", tmp_path / "adapter2"]
    with without_gpu():
        expected = told(base, adapters)
    with gpu_of(machine):
        same(told(base, adapters), expected)


@pytest.mark.parametrize("machine", MACHINES)
def test_bf16_is_computed_where_it_is_fast(machine: str, tmp_path: Path) -> None:
    base = write_family(tmp_path / "base", "llama")
    with gpu_of(machine):
        assert place("auto").device == torch.device("cuda")
        assert place("auto").dtype is torch.bfloat16
        found = told(base, [], "auto")
    assert all(math.isfinite(number) for one in found[: len(PROMPTS)] for number in one)
