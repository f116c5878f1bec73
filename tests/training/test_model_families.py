"""Trainings of any architecture are those of transformers and PEFT, whichever pass computes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.model_families import FAMILIES, config_of, write_family
from support.oracle import edit_json
from support.training_families import CPU, check_training, gradient_error, rows_of
from tailorbird.training.batches import RowLayout
from tailorbird.training.network import Network, proof_of, read_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

#: A few that differ as much as possible: packed with a norm of its own, own logits, sinks and experts, a running state, a wrapper.
FEW = ("qwen3", "gemma2", "gpt_oss", "falcon_h1", "mistral3")


@pytest.mark.parametrize("model_type", FEW)
def test_gradients_and_logits_are_those_of_peft(model_type: str, tmp_path: Path) -> None:
    worst, off = gradient_error(write_family(tmp_path / "base", model_type), tmp_path / "adapter")
    assert worst < 1e-3
    assert off < 1e-4


@pytest.mark.models
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_column_of_every_family(model_type: str, tmp_path: Path) -> None:
    found = check_training(write_family(tmp_path / "base", model_type), tmp_path)
    columns = ("gradients", "merged", "resumed", "doctor", "qlora", "full")
    # The layers of GPT-2 are convolutions of width one, on which no adapter is placed.
    assert all(found[column] for column in (columns[-1:] if model_type == "gpt2" else columns)), found


@pytest.mark.parametrize(
    ("model_type", "layout"),
    [
        ("llama", RowLayout.TREE),
        ("granite", RowLayout.TREE),
        ("mistral", RowLayout.PADDED),
        ("gpt_oss", RowLayout.PADDED),
    ],
)
def test_a_test_of_equality_chooses_the_pass(model_type: str, layout: RowLayout) -> None:
    assert proof_of(config_of(model_type)).layout is layout


def test_longer_rows_than_the_window_are_not_packed(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "mistral")
    edit_json(folder / "config.json", sliding_window=64)
    network, rows = Network(read_model(folder, torch.float32, CPU), "fp32"), rows_of((14, 90))
    network.settle(rows[:1])
    assert network.layout is RowLayout.TREE
    network.settle(rows)
    assert network.layout is RowLayout.PADDED
    both = network.answer_losses(network.pack(rows))
    alone = [network.plain_loss_sum(row) for row in rows]
    assert float(both.sum()) == pytest.approx(sum(alone), rel=1e-4)
