"""Transformers' own pass behind the scheduler: texts beyond the first table of positions, lengths that differ, steps that fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from support.model_families import config_of, model_of
from tailorbird.inference.forward import sequence_caches, transformers_forward
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


def test_what_a_neighbour_read_changes_no_short_text() -> None:
    forward = turning("dynamic")
    short, long = list(range(10, 22)), list(range(20, 20 + 3 * FIRST))
    with torch.inference_mode():
        before = forward.computed([short], None, [])
        middle = forward.computed([long[: FIRST + 4]], None, [])
        forward.computed([long], None, [])
        assert torch.equal(forward.computed([long[: FIRST + 4]], None, []), middle)
        assert torch.equal(forward.computed([short], None, []), before)


@pytest.mark.parametrize("filled", [0, 2**20])
def test_a_long_text_does_not_widen_the_rows_of_short_ones_by_much(monkeypatch: pytest.MonkeyPatch, filled: int) -> None:
    monkeypatch.setattr(transformers_forward, "_FILLED", filled)
    forward = TransformersForward(model_of("qwen3"))
    assert forward.abilities.stacks
    texts = [[1 + at] * length for at, length in enumerate((60, 5, 6, 5))]
    memory = forward.memory(64)
    with torch.inference_mode():
        for ends in (1, 0):
            parts = []
            for at, text in enumerate(texts):
                stop = len(text) - ends
                start = 0 if ends else stop - 1
                parts.append(Part(None, text[start:stop], start, list(range(4 * at, 4 * at + 4)), stop - 1, history=text))
            forward.hidden(build_batch(parts), memory)
    lengths = [[row.length for row in stack.rows] for stack in memory._stacks]
    assert sorted(map(len, lengths)) == ([4] if filled else [1, 3])
    assert filled or all(max(each) <= 2 * min(each) for each in lengths)


def test_a_stack_that_could_not_be_taken_apart_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = TransformersForward(model_of("qwen3"))
    texts, memory = [list(range(20, 32)), list(range(60, 72))], forward.memory(16)
    rows(forward, memory, texts, 0, 9)
    rows(forward, memory, texts, 9, 10)

    def fails(_stack: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(sequence_caches, "apart", fails)
        with pytest.raises(MemoryError):
            rows(forward, memory, texts[:1], 10, 12)
    found = rows(forward, memory, texts, 10, 12)
    with torch.inference_mode():
        whole = [forward.computed([text], None, [])[0, -1] for text in texts]
    assert all((one - other).abs().max() < 1e-4 for one, other in zip(found, whole, strict=True))
