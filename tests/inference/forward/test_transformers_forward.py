"""Transformers' own pass behind the scheduler: texts beyond the first table of positions, lengths that differ, steps that fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from support.model_families import config_of
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.transformers_forward import TransformersForward

FIRST = 16
MOVING = {
    "longrope": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [6.0] * 4, "original_max_position_embeddings": FIRST},
    "dynamic": {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10_000.0},
}


def turning(kind: str) -> TransformersForward:
    """A tiny model whose angles change once a text has more than ``FIRST`` tokens."""
    config: Any = config_of("llama")
    given = config.to_dict() | {"rope_parameters": MOVING[kind] | {"rope_theta": 10_000.0}, "original_max_position_embeddings": FIRST}
    given["max_position_embeddings"] = FIRST if kind == "dynamic" else 128
    built: Any = AutoModelForCausalLM
    torch.manual_seed(5)
    model = built.from_config(AutoConfig.for_model(**given), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return TransformersForward(model.eval())


def rows(forward: TransformersForward, memory: Any, texts: list[list[int]], start: int, stop: int) -> torch.Tensor:
    """The last hidden state of each text after tokens ``start`` to ``stop``, all in one step."""
    parts = [Part(None, text[start:stop], start, list(range(4 * at, 4 * at + 4)), stop - 1, history=text) for at, text in enumerate(texts)]
    with torch.inference_mode():
        return forward.hidden(build_batch(parts), memory)


@pytest.mark.parametrize("kind", MOVING)
def test_a_text_that_outgrows_the_first_table_is_read_as_a_whole(kind: str) -> None:
    forward = turning(kind)
    assert forward.abilities.caches
    drawn = torch.randint(0, 200, (2, 3 * FIRST), generator=torch.Generator().manual_seed(4)).tolist()
    memory, start = forward.memory(8), 0
    for stop in (FIRST - 2, FIRST - 1, FIRST, FIRST + 1, FIRST + 2, FIRST + 7, 3 * FIRST):
        found = rows(forward, memory, drawn, start, stop)
        for text, row in zip(drawn, found, strict=True):
            fresh = turning(kind)
            with torch.inference_mode():
                whole = fresh.computed([text[:stop]], None, [])[0, -1]
            assert (row - whole).abs().max() < 1e-4 * whole.abs().max(), stop
        start = stop
