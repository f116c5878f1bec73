"""Packed products and attention of each text apart, against torch's own layers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from support.tiny_encoder import write_tiny_encoder
from tailorbird.inference import encoder_layers
from tailorbird.inference.encoder_layers import PackedLinear, pack_linear_layers
from tailorbird.inference.retrieval import EncoderModel

X86 = platform.machine() in ("x86_64", "AMD64")


def layer(inputs: int = 40, outputs: int = 24, *, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, outputs, bias=bias)


def places(model: torch.nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in model.named_modules()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 16, 129])
def test_a_packed_layer_gives_what_the_layer_gives(rows: int, bias: bool) -> None:
    own = torch.nn.Sequential(layer(bias=bias))
    x_1NI = torch.randn(1, rows, 40, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = own(x_1NI)
        pack_linear_layers(own)
        torch.testing.assert_close(own(x_1NI), wanted, atol=1e-6, rtol=0)
    assert places(own)["0"] is (PackedLinear if X86 else torch.nn.Linear)
    assert (own[0].in_features, own[0].out_features) == (40, 24)


def test_what_cannot_be_packed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer in another precision, one of another kind, and all of them where a packed one gives something else, or nothing."""
    halved, other = torch.nn.Sequential(layer().bfloat16()), torch.nn.Sequential(torch.nn.Bilinear(4, 4, 4))
    for model in (halved, other):
        before = places(model)
        pack_linear_layers(model)
        assert places(model) == before
    plain = torch.nn.Sequential(layer())
    for forward in (lambda self, x: torch.zeros(len(x), 24), lambda self, x: torch.zeros(len(x), 1), _none):
        monkeypatch.setattr(PackedLinear, "forward", forward)
        pack_linear_layers(plain)
        assert places(plain)["0"] is torch.nn.Linear


def _none(*_: Any) -> torch.Tensor:
    raise AttributeError("this torch has no such product")


def test_texts_attend_to_themselves_alone_whatever_the_mask_says(tmp_path: Path) -> None:
    """The mask that the model is given beside it would let all see all."""
    encoder = EncoderModel(write_tiny_encoder(tmp_path), None)
    texts = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14]]
    row = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    alone = torch.cat([encoder.vectors([text]) for text in texts])
    masked = encoder.vectors(texts)
    torch.testing.assert_close(masked, alone, atol=2e-6, rtol=0)
    before = encoder_layers.attend_apart(encoder.model)
    torch.testing.assert_close(encoder.vectors(texts), alone, atol=2e-6, rtol=0)
    torch.testing.assert_close(encoder.vectors(texts, 6), alone, atol=2e-6, rtol=0)
    with torch.inference_mode(), encoder_layers.texts_of([10]):
        mixed = encoder.model(input_ids=row).last_hidden_state
    with torch.inference_mode(), encoder_layers.texts_of([3, 1, 6]):
        apart = encoder.model(input_ids=row).last_hidden_state
    assert (mixed - apart).abs().max() > 0.01
    assert before is not None
    encoder_layers.attend_by(encoder.model, before)
    torch.testing.assert_close(encoder.vectors(texts), alone, atol=2e-6, rtol=0)


def test_a_family_that_refuses_another_attention_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = EncoderModel(write_tiny_encoder(tmp_path), None)
    own = encoder.model.config._attn_implementation

    def refuse(name: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(encoder.model, "set_attn_implementation", refuse)
    assert encoder_layers.attend_apart(encoder.model) is None
    assert encoder.model.config._attn_implementation == own
