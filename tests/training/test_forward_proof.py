"""The proof of a forward pass is made once for a config, on a small model whatever the width, and heeded for the rows it was made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from support.model_families import write_family
from support.oracle import edit_json
from support.training_families import CPU, rows_of
from tailorbird.training import network as forward_proof
from tailorbird.training.batches import RowLayout, divide
from tailorbird.training.network import MOST_PARAMETERS, Network, proof_of, read_model
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


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("llama", {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}),
    ],
)
def test_a_wide_model_is_proven_narrow(model_type: str, sizes: dict[str, int], built: list[int]) -> None:
    config = AutoConfig.for_model(model_type, num_hidden_layers=40, head_dim=128, **sizes)
    proof = proof_of(config)
    assert (proof.layout, proof.head_scale) == (RowLayout.TREE, 1.0)
    assert 0 < built[0] < MOST_PARAMETERS
    assert config.hidden_size == sizes["hidden_size"]


def test_rows_on_both_sides_of_the_first_table_are_those_of_the_model(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "phi3")
    edit_json(folder / "config.json", **longrope(64))
    network, rows = Network(read_model(folder, torch.float32, CPU), "fp32"), rows_of((44, 90))
    assert network.layout is RowLayout.TREE
    network.settle(rows)
    assert network.layout is RowLayout.SINGLE
    check_packing(network, rows)
    assert [len(part) for part in divide(rows, 1000, network.layout)] == [1, 1]
