"""Encoders tuned for labels, on a toy encoder: what is learned, saved, and read back where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.tiny_encoder import LABELS, text_of, tuning_settings, write_tiny_encoder
from tailorbird.inference import open_encoder
from tailorbird.ports.trainer import LabelJob, LabelledText
from tailorbird.text.label_rules import read_prototypes
from tailorbird.training import open_trainer

D = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def labelled(number: int, many: bool) -> LabelledText:
    label = LABELS[number % 2]
    return LabelledText(text=text_of(number), labels=(label,) if not many else () if number % 3 == 0 else (label,))


def job_of(base: Path, folder: Path, method: str = "full", many: bool = False, **changes: Any) -> LabelJob:
    settings = tuning_settings(method, 5e-3 if method == "lora" else 3e-3, epochs=15, batch_size=8)
    rows = tuple(labelled(number, many) for number in range(40))
    fields = {"train": rows[:32], "held_out": rows[32:], "workspace": folder / method}
    return LabelJob(base=base, base_digest=D, snapshot=D, settings=settings, labels=LABELS, alone=many, **(fields | changes))


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        ("full", "fp32"),
        ("lora", "bf16"),
    ],
)
def test_texts_may_bear_several_labels_or_none(base: Path, tmp_path: Path, method: str, precision: str) -> None:
    job = job_of(base, tmp_path, method, many=True)
    job = job.model_copy(update={"settings": job.settings.model_copy(update={"precision": precision})})
    made = open_trainer().tune(job, lambda _: None)
    assert made.report.best_held_out_loss < 0.9 * made.report.first_held_out_loss
    found = read_prototypes(made.folder, len(LABELS))
    asked = [text_of(number) for number in range(40) if number % 3]
    vectors = open_encoder().embed(base, asked, made.folder) if method == "lora" else open_encoder().embed(made.folder, asked)
    odds = found.log_odds(vectors)
    borne = [number % 2 for number in range(40) if number % 3]
    assert np.mean(odds[:, :2].argmax(axis=1) == borne) > 0.8
    assert (odds[:, 2] < 0).all(), "no text bears it"
