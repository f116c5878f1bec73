"""Gradient check: a batch that teaches something else than its rows is found."""

from __future__ import annotations

import pytest
import torch

from support.preflight import only
from support.training_samples import MakeJob
from tailorbird.training.batches import Packed
from tailorbird.training.network import Network


@pytest.fixture
def normalised_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of transformers#34191: each part's loss is divided by its own tokens."""
    sound = Network.loss_sum

    def unsound(self: Network, packed: Packed) -> torch.Tensor:
        return sound(self, packed) / packed.loss_tokens

    monkeypatch.setattr(Network, "loss_sum", unsound)


@pytest.mark.usefixtures("normalised_by_rows")
def test_a_gradient_that_depends_on_the_batch(make_job: MakeJob) -> None:
    assert "relative error" in only(make_job(), "gradient_not_additive").what
