"""Adapters of any rank on layers of any width, many in a step, by each form of the native pass: what fp32 makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support.oracle import MakeModel
from tailorbird.base_models.adapter_format import AdapterChange
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.model_folder import read_weights
from tailorbird.inference.forward.weights import Changes, place
from tailorbird.inference.forward_factory import reader_of_decoders
from tailorbird.inference.native import library
from tailorbird.inference.native.forward import NativeForward

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")

#: Rank of each adapter, and the rows of a step that are computed with it.
RANKS = {1: 1, 8: 2, 16: 3, 24: 4, 48: 7, 64: 17, 100: 33}
#: Widths that fill runs of 64, and that do not.
SIZES = {"whole": (128, 192), "broken": (96, 144)}


def changes(forward: Any, rank: int, names: tuple[str, ...] | None = None) -> Changes:
    draw = torch.Generator().manual_seed(rank)
    return {
        (layer, name): AdapterChange(
            torch.randn(rank, inputs, generator=draw) / inputs**0.5, torch.randn(outputs, rank, generator=draw) / rank**0.5, 0.5
        )
        for layer in range(forward.layers)
        for name, (inputs, outputs) in forward.linears.items()
        if names is None or name in names
    }


def model(make_model: MakeModel, sizes: str) -> Path:
    hidden, inner = SIZES[sizes]
    return make_model(
        "llama", hidden_size=hidden, intermediate_size=inner, num_attention_heads=hidden // 32, num_key_value_heads=1, head_dim=32
    )


def step(forward: Any, adapters: list[Any], counts: list[int]) -> torch.Tensor:
    """The tokens of a row depend on how many it has alone."""
    parts = [
        Part(adapter, [5 + (7 * count + place) % 90 for place in range(count)], 0, [3 * at, 3 * at + 1, 3 * at + 2], 0)
        for at, (adapter, count) in enumerate(zip(adapters, counts, strict=True))
    ]
    found: torch.Tensor = forward.hidden(build_batch(parts), forward.memory(3 * len(parts)))
    return found.float()


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    """How far rows lie apart on average, as a part of their size."""
    return float(((found - exact).norm(dim=1) / exact.norm(dim=1)).mean())


def passes(base: Path, precision: Any) -> tuple[Any, Any, Any]:
    """In fp32, by the native pass, and by torch in bf16: random weights make much of any rounding."""
    exact, peer = (reader_of_decoders(place(held), "plain")(base) for held in ("fp32", "bf16"))  # type: ignore[arg-type]
    forward = reader_of_decoders(place(precision), "native")(base)
    assert (exact.kernels, peer.kernels, forward.kernels) == ("plain", "plain", "native")
    return exact, forward, peer


@pytest.mark.parametrize(("precision", "sizes"), [("bf16", "whole"), ("bf16", "broken"), ("int8", "whole")])
def test_ranks_mixed_in_a_step_are_what_fp32_makes_of_each(make_model: MakeModel, precision: Any, sizes: str, native_form: str) -> None:
    base, counts = model(make_model, sizes), [*RANKS.values(), 2]
    exact, found, peer = (step(one, [*(one.adapt(changes(one, rank)) for rank in RANKS), None], counts) for one in passes(base, precision))
    bare = step(reader_of_decoders(place("fp32"), "plain")(base), [None] * len(counts), counts)
    assert off(bare[:-2], exact[:-2]) > 0.5, "they change nothing to speak of"
    assert off(found, exact) < (2 if precision == "int8" else 1.3) * off(peer, exact), "int8 rounds the base's weights too"


def test_a_row_with_an_adapter_is_the_same_beside_any_others(make_model: MakeModel, native_form: str) -> None:
    """With weights in int8 all products are: also those of an adapter, alone and beside many."""
    weights = read_weights(make_model("llama", hidden_size=128, intermediate_size=192, head_dim=32), place("int8"))
    forward = NativeForward(weights, 1, eight_bits=True)
    adapters = {rank: forward.adapt(changes(forward, rank)) for rank in RANKS}
    alone = {rank: step(forward, [adapters[rank]], [count]) for rank, count in RANKS.items()}
    for order in (list(RANKS), list(RANKS)[::-1]):
        together = step(forward, [adapters[rank] for rank in order], [RANKS[rank] for rank in order])
        starts = [sum(RANKS[rank] for rank in order[:at]) for at in range(len(order))]
        for rank, start in zip(order, starts, strict=True):
            found = together[start : start + RANKS[rank]]
            assert torch.equal(found, alone[rank]), rank


@pytest.mark.parametrize(
    "precision",
    [
        "bf16",
    ],
)
def test_the_bits_are_the_same_whether_threads_share_each_adapter_or_take_some(
    make_model: MakeModel, precision: Any, native_form: str
) -> None:
    """One thread takes all adapters, three take some each or share the few, nine share each and lay out rows together."""
    weights = read_weights(model(make_model, "whole"), place(precision))
    found = []
    for threads in (1, 3, 9):
        forward = NativeForward(weights, threads, eight_bits=precision == "int8")
        adapters = [forward.adapt(changes(forward, rank)) for rank in (16, 8, 48, 16, 1, 16, 24, 16, 16, 16, 8, 64)]
        steps = [(adapters, [2, 1, 1, 1, 1, 2, 1, 1, 1, 3, 1, 1]), ([*adapters[:5], None], [5, 40, 1, 2, 1, 2]), (adapters[:1], [9])]
        found.append([step(forward, *each) for each in steps])
    assert all(torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True))
