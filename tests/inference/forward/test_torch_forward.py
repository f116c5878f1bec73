"""Weights in eight bits: as near to what they stand for as their levels allow."""

from __future__ import annotations

import pytest
import torch

from tailorbird.inference.forward.torch_forward import Linear, in_eight_bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_each_weight_is_off_by_half_a_level_at_most(dtype: torch.dtype) -> None:
    weight_OI = (torch.randn(64, 48, generator=torch.Generator().manual_seed(1)) * 0.02).to(dtype)
    weight_OI[0] = 0
    held = in_eight_bits(Linear(weight_OI, None))
    stands_for_OI = held.weight_OI.float() * held.scale_O.float()[:, None]
    level_O1 = held.scale_O.float()[:, None]
    cut_OI = weight_OI.float().clamp(-127 * level_O1, 127 * level_O1)
    assert ((stands_for_OI - cut_OI).abs() <= 0.5001 * level_O1).all()
    assert ((cut_OI - weight_OI.float()).abs() <= 0.5 * level_O1).all(), "the largest weight is cut by half a level at most"
