"""What a run costs: FLOPs by hand, memory that grows, a machine that answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.training_samples import settings
from tailorbird.training.batches import TokenizedRow, pack
from tailorbird.training.loop import Flops
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import read_model

CPU = torch.device("cpu")
#: hidden 32, MLP 48, 4 heads and 2 key heads of 8, two layers.
BACKBONE = 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48)
RANK_INPUTS_AND_OUTPUTS = 2 * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 48))


@pytest.mark.parametrize(
    ("method", "per_token", "per_loss_token"),
    [("full", 6 * BACKBONE, 6 * 32 * 49152), ("lora", 4 * BACKBONE + 6 * 4 * RANK_INPUTS_AND_OUTPUTS, 4 * 32 * 49152)],
)
def test_flops_follow_the_formula(method: str, per_token: int, per_loss_token: int, tiny_base: Path, rows: list[TokenizedRow]) -> None:
    learner = Learner(read_model(tiny_base, torch.float32, CPU), settings(method), tiny_base)
    METHODS[method].prepare(learner)
    packed = pack(rows, torch.float32, CPU)
    assert packed.tokens < packed.useful
    expected = packed.tokens * per_token + packed.loss_tokens * per_loss_token + packed.tree.pairs * 12 * 32 * 2
    assert Flops(learner.model).of(packed) == expected
