"""Rows meet the model that is read for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tailorbird.domain.errors import ModelInvalid
from tailorbird.training.batches import TokenizedRow
from tailorbird.training.network import Network, read_model


def test_a_token_that_the_model_does_not_embed_is_refused(tiny_base: Path) -> None:
    """A tokenizer of another model, before the first pass fails on it."""
    network = Network(read_model(tiny_base, torch.float32, torch.device("cpu")), "fp32")
    network.settle([TokenizedRow((1, 2, 3), 1)])
    with pytest.raises(ModelInvalid, match="embeds") as caught:
        network.settle([TokenizedRow((1, 2, 3), 1), TokenizedRow((1, 9_000_000), 1)])
    assert (caught.value.error_code, bool(caught.value.hint)) == ("model_unreadable", True)
