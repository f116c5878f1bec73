"""The proof of a forward pass is made once for a config, on a small model whatever the width, and heeded for the rows it was made for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from support.model_families import config_of, write_family
from support.oracle import edit_json
from support.training_families import CPU, rows_of
from tailorbird.decoders import narrowed
from tailorbird.training import network as forward_proof
from tailorbird.training.batches import RowLayout, divide
from tailorbird.training.network import MOST_PARAMETERS, Network, layout_within, proof_of, read_model
from tailorbird.training.preflight import check_packing


def longrope(original: int) -> dict[str, Any]:
    """Settings of rotary factors that are others beyond ``original`` tokens."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": original}
    return {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, **factors}, "original_max_position_embeddings": original}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of parameters of the models on which proofs are made, of which none is known before."""
    sizes: list[int] = []
    make = forward_proof._randomised

    def measured(config: Any) -> Any:
        model = make(config)
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
        return model

    monkeypatch.setattr(forward_proof, "_randomised", measured)
    monkeypatch.setattr(forward_proof, "_PROOFS", {})
    return sizes


def test_the_type_of_the_weights_asks_for_no_second_proof_of_a_wrapper(built: list[int]) -> None:
    config = config_of("mistral3")
    read = copy.deepcopy(config)
    read.dtype = read.text_config.dtype = read.vision_config.dtype = torch.bfloat16
    read.text_config._name_or_path = "elsewhere"
    assert proof_of(read) is proof_of(config)
    assert len(built) == 1


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("llama", {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}),
        ("qwen3", {"hidden_size": 5120, "intermediate_size": 25600, "num_attention_heads": 64, "num_key_value_heads": 8}),
    ],
)
def test_a_wide_model_is_proven_narrow(model_type: str, sizes: dict[str, int], built: list[int]) -> None:
    config = AutoConfig.for_model(model_type, num_hidden_layers=40, head_dim=128, **sizes)
    proof = proof_of(config)
    assert (proof.layout, proof.head_scale) == (RowLayout.TREE, 1.0)
    assert 0 < built[0] < MOST_PARAMETERS
    assert config.hidden_size == sizes["hidden_size"]


@pytest.mark.parametrize(
    ("heads", "keys", "left"),
    [(32, 8, (4, 2)), (32, 32, (4, 4)), (32, 1, (4, 1)), (28, 4, (4, 2)), (40, 8, (4, 2)), (9, 3, (9, 3)), (14, 2, (7, 1))],
)
def test_a_narrow_copy_keeps_the_kind_of_heads_and_their_width(heads: int, keys: int, left: tuple[int, int]) -> None:
    sizes = {"hidden_size": 128 * heads, "intermediate_size": heads * 512, "num_attention_heads": heads, "num_key_value_heads": keys}
    made = narrowed(AutoConfig.for_model("llama", **sizes), 4)
    assert (made.num_attention_heads, made.num_key_value_heads) == left
    assert made.hidden_size // made.num_attention_heads == 128
    assert made.intermediate_size <= made.hidden_size
    assert made.num_attention_heads % made.num_key_value_heads == 0


def test_state_heads_and_towers_are_made_narrow_too() -> None:
    """Wide by their heads of linear attention, their groups of state-space heads, and a tower that no text passes."""
    wide = {"num_hidden_layers": 4, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
    linear = {"linear_num_key_heads": 16, "linear_num_value_heads": 48, "layer_types": ["linear_attention", "full_attention"] * 2}
    towers = {"text_config": wide, "vision_config": {"hidden_size": 1152, "depth": 27, "deepstack_visual_indexes": [8, 16, 24]}}
    configs = [
        AutoConfig.for_model("qwen3_5_text", **wide, **linear),
        AutoConfig.for_model("mamba2", num_hidden_layers=2),
        AutoConfig.for_model("qwen3_vl", **towers),
    ]
    hybrid, states, wrapper = (narrowed(forward_proof._cut(config), 2) for config in configs)
    assert max(forward_proof._parameters(config) for config in (hybrid, states, wrapper)) < MOST_PARAMETERS
    assert hybrid.linear_num_value_heads == 3 * hybrid.linear_num_key_heads
    assert states.num_heads * states.head_dim == states.expand * states.hidden_size
    assert states.num_heads % states.n_groups == 0


def test_what_cannot_be_made_narrow_is_padded_without_a_proof(built: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_proof, "MOST_PARAMETERS", 100)
    proof = proof_of(config_of("llama"))
    assert (proof.layout, proof.head_scale) == (RowLayout.PADDED, None)
    assert built == []


def test_rows_beyond_what_turns_all_positions_are_computed_alone() -> None:
    short, long = rows_of((14, 30)), rows_of((14, 44))
    config = config_of("phi3")
    for name, value in longrope(32).items():
        setattr(config, name, value)
    for layout in (RowLayout.TREE, RowLayout.PADDED):
        assert layout_within(config, layout, short) is layout
        assert layout_within(config, layout, long) is RowLayout.SINGLE
    # The dynamic kind names no number: it is the context.
    dynamic = AutoConfig.for_model("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0}, max_position_embeddings=32)
    assert layout_within(dynamic, RowLayout.TREE, short) is RowLayout.TREE
    assert layout_within(dynamic, RowLayout.TREE, long) is RowLayout.SINGLE
    assert layout_within(config_of("llama"), RowLayout.TREE, long) is RowLayout.TREE


def test_rows_on_both_sides_of_the_first_table_are_those_of_the_model(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "phi3")
    edit_json(folder / "config.json", **longrope(64))
    network, rows = Network(read_model(folder, torch.float32, CPU), "fp32"), rows_of((44, 90))
    assert network.layout is RowLayout.TREE
    network.settle(rows)
    assert network.layout is RowLayout.SINGLE
    check_packing(network, rows)
    assert [len(part) for part in divide(rows, 1000, network.layout)] == [1, 1]
