"""Encoders of several families, with rules of their own: tuned for labels and for questions, and read back where they are served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.encoders import describe_in_place, write_pooling, write_prompts
from support.model_families import write_family
from support.tiny_encoder import tuning_settings
from tailorbird.base_models.encoder_vectors import read_encoder
from tailorbird.inference import open_encoder
from tailorbird.ports.trainer import LabelJob, LabelledText
from tailorbird.training import open_trainer

D = "sha256:" + "0" * 64
LABELS = ("fox", "rain")
TEXTS = tuple(f"a {7 * n} text {n}" for n in range(16))
#: Families, and the rule of each.
FAMILIES = [
    ("bert", "cls"),
    ("modernbert", "cls"),
]
FAMILIES += [("nomic_bert", "mean"), ("qwen3", "lasttoken")]


def base_of(folder: Path, family: str, rule: str) -> Path:
    write_prompts(write_pooling(write_family(folder, family), rule), {"query": "ask: ", "classification": "sort: "})
    return describe_in_place(folder)


def settings_for(base: Path, method: str, rate: float) -> dict[str, object]:
    settings = tuning_settings(method, rate, epochs=4, batch_size=8)
    if settings.lora is None:
        return {"settings": settings}
    lora = settings.lora.model_copy(update={"targets": tuple(read_encoder(base).linear_shapes)})
    return {"settings": settings.model_copy(update={"lora": lora})}


@pytest.mark.parametrize(("family", "rule"), FAMILIES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_was_tuned_for_labels_is_served(method: str, family: str, rule: str, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", family, rule)
    rows = tuple(LabelledText(text=text, labels=(LABELS[place % 2],)) for place, text in enumerate(TEXTS))
    shared = {"base": base, "base_digest": D, "snapshot": D, "labels": LABELS, "alone": False, "workspace": tmp_path / "work"}
    job = LabelJob(**shared, train=rows, held_out=rows, **settings_for(base, method, 3e-3))  # type: ignore[arg-type]
    made, encoder = open_trainer().tune(job, lambda _: None), open_encoder()
    assert made.report.best_held_out_loss < made.report.first_held_out_loss
    vectors = encoder.embed(base, TEXTS, made.folder) if method == "lora" else encoder.embed(made.folder, TEXTS)
    assert vectors.shape == (16, 32)
    assert np.abs(vectors - encoder.embed(base, TEXTS)).max() > 1e-3
