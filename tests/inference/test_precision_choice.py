"""``engine_precision: auto``: what is computed in, by the processor, the compiler and the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.model_families import write_family
from tailorbird.inference.forward import weights
from tailorbird.inference.forward_factory import choose_pass, reader_of_decoders
from tailorbird.inference.native import library

able = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")


@pytest.fixture
def older_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that multiplies bf16 no faster than fp32, and has AVX2."""
    monkeypatch.setattr(weights, "is_bf16_fast", lambda _: False)
    monkeypatch.setattr(library, "form_here", lambda: library.PORTABLE)


@able
@pytest.mark.usefixtures("older_processor")
@pytest.mark.parametrize(("family", "kernels"), [("llama", "plain"), ("gpt_oss", "transformers")])
def test_any_other_model_is_held_in_fp32(family: str, kernels: str, tmp_path: Path) -> None:
    """One of sizes that fit no registers, and one of an architecture that is computed by transformers' pass."""
    folder = write_family(tmp_path / "base", family)
    placement, chosen = choose_pass("auto", "auto")
    forward = reader_of_decoders(placement, chosen)(folder)
    assert (chosen, forward.kernels) == ("native", kernels)
    held = {form: reader_of_decoders(weights.place(form), "plain")(folder).nbytes for form in ("bf16", "fp32")}  # type: ignore[arg-type]
    assert held["bf16"] < held["fp32"] == forward.nbytes
