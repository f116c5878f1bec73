"""Products by matrix registers (AMX), real or simulated: as near to fp32 as without them, and a row the same bits beside any others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support.native_forms import FORMS
from support.oracle import MakeModel
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.model_folder import read_weights
from tailorbird.inference.forward.weights import place
from tailorbird.inference.native import library
from tailorbird.inference.native.forward import NativeForward

pytestmark = pytest.mark.skipif("amx" not in FORMS, reason="this processor has no AVX512-BF16, which matrix registers are simulated with")
ROWS = [1, 2, 15, 16, 17, 31, 32, 33, 48, 70]


@pytest.fixture(scope="module", params=[64, 48], ids=["whole registers", "half a register left"])
def weights(make_model: MakeModel, request: pytest.FixtureRequest) -> Any:
    return read_weights(make_model("qwen2", hidden_size=request.param, intermediate_size=80, head_dim=32), place("bf16"))


def rows_of(weights: Any, count: int) -> torch.Tensor:
    return torch.randn(count, weights.config.hidden_size, generator=torch.Generator().manual_seed(count)).bfloat16()


def test_products_are_those_of_fp32_for_any_number_of_rows(weights: Any) -> None:
    """What is multiplied is bf16, so that only the order of sums differs."""
    forward = NativeForward(weights, 3, form=FORMS["amx"])
    for count in ROWS:
        x = rows_of(weights, count)
        exact = x.double() @ weights.lm_head.weight.double().T
        assert torch.allclose(forward.logits(x).double(), exact, rtol=1e-5, atol=1e-4), count


def test_registers_that_the_system_keeps_back_are_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Kept:
        def __getattr__(self, name: str) -> Any:
            self.__dict__[name] = found = type("Call", (), {"__call__": lambda call: 0})()
            return found

    monkeypatch.setattr(library, "load_compiled", lambda source, command, processor: Kept())
    library._loaded.cache_clear()
    try:
        assert library._loaded(library.AMX) is None
    finally:
        library._loaded.cache_clear()
    assert "does not let this process use the processor's matrix registers" in caplog.text


def test_a_step_is_as_near_to_fp32_by_every_form(weights: Any) -> None:
    """Biases, what is added to the stream, and rows of several texts."""
    texts = [[5 + (11 * at + place) % 90 for place in range(1 + 3 * at)] for at in range(9)]
    batch = build_batch(Part(None, text, 0, [2 * at, 2 * at + 1], 0) for at, text in enumerate(texts))
    found = {}
    for name, form in FORMS.items():
        forward = NativeForward(weights, 2, form=form)
        found[name] = forward.hidden(batch, forward.memory(2 * len(texts))).float()
    off = {name: float((rows - found["portable"]).norm() / found["portable"].norm()) for name, rows in found.items()}
    assert off["amx"] > 0
    assert max(off.values()) < 1.2 * off["avx512"]
