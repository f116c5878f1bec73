"""Encoders that are tuned without a part of the rows each and averaged, on a toy encoder: what is learned, kept, and gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from support.tiny_encoder import LABELS, text_of, tuning_settings, write_tiny_encoder
from tailorbird.domain.run import TrainingProgress
from tailorbird.inference import open_encoder
from tailorbird.ports.trainer import LabelJob, LabelledText
from tailorbird.text.label_rules import read_prototypes
from tailorbird.training import open_trainer

D = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def job_of(base: Path, folder: Path, **changes: Any) -> LabelJob:
    rows = (*(LabelledText(text=text_of(n), labels=(LABELS[n % 2],)) for n in range(40)), LabelledText(text="w39 w39", labels=("never",)))
    settings = tuning_settings("full", 3e-3, epochs=8, batch_size=8)
    fields = {"train": rows, "held_out": (), "parts": (*(n // 2 % 4 for n in range(40)), -1), "workspace": folder, "settings": settings}
    return LabelJob(base=base, base_digest=D, snapshot=D, labels=LABELS, alone=False, **(fields | changes))


def ignored(_line: TrainingProgress) -> None:
    return None


def test_the_mean_tells_labels_apart_and_its_lower_layers_are_the_base_s(base: Path, tmp_path: Path) -> None:
    made = open_trainer().tune(job_of(base, tmp_path), ignored)
    assert made.report.best_held_out_loss < 0.9 * made.report.first_held_out_loss
    found = read_prototypes(made.folder, len(LABELS))
    np.testing.assert_allclose(np.linalg.norm(found.weights_KH, axis=1), 20.0, rtol=1e-5)
    texts = [text_of(n) for n in range(40)]
    head = found.classifier(LABELS, 1.0)
    answers = head.log_probabilities(texts, open_encoder().embed(made.folder, texts)).argmax(axis=1)
    assert (answers == np.arange(40) % 2).mean() > 0.9
    before, after = load_file(base / "model.safetensors"), load_file(made.folder / "model.safetensors")
    changed = {name for name, weight in after.items() if not np.array_equal(weight, before[name])}
    assert changed
    assert {name.split(".layer.")[-1][0] for name in changed} == {"1"}, "of two layers the upper one learned"
    assert made.report.trained_parameters == sum(after[name].size for name in after if ".layer.1." in name)


@pytest.mark.parametrize(
    "precision",
    [
        "bf16",
    ],
)
def test_the_mean_of_adapters_is_an_adapter_of_the_upper_layers_of_the_same_rank(base: Path, tmp_path: Path, precision: str) -> None:
    settings = tuning_settings("lora", 5e-3, epochs=8, batch_size=8).model_copy(update={"precision": precision})
    made = open_trainer().tune(job_of(base, tmp_path, settings=settings), ignored)
    assert made.report.best_held_out_loss < 0.9 * made.report.first_held_out_loss
    assert not (made.folder / "model.safetensors").exists(), "the encoder is the base's"
    told = json.loads((made.folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(made.folder / "adapter_model.safetensors")
    assert {name.split(".layer.")[1][0] for name in tensors} == {"1"}, "of two layers the upper one learned"
    assert sorted(told["target_modules"]) == sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors})
    assert {tensor.shape[0] for name, tensor in tensors.items() if ".lora_A." in name} == {told["r"]} == {4}
    texts = [text_of(n) for n in range(40)]
    head = read_prototypes(made.folder, len(LABELS)).classifier(LABELS, 1.0)
    answers = head.log_probabilities(texts, open_encoder().embed(base, texts, made.folder)).argmax(axis=1)
    assert (answers == np.arange(40) % 2).mean() > 0.9


@pytest.mark.parametrize(
    "key",
    [
        "ab" * 32,
    ],
)
def test_a_run_that_was_killed_goes_on_with_the_encoders_that_were_finished(base: Path, tmp_path: Path, key: str) -> None:
    class Killed(Exception):
        pass

    told = list[int]()

    def count(line: TrainingProgress) -> None:
        told.append(line.step)

    def kill(line: TrainingProgress) -> None:
        if line.step > line.steps * 0.6:
            raise Killed

    whole = open_trainer().tune(job_of(base, tmp_path / "whole"), count)
    steps, job = len(told), job_of(base, tmp_path / "killed", seal_key=key)
    with pytest.raises(Killed):
        open_trainer().tune(job, kill)
    told.clear()
    again = open_trainer().tune(job, count)
    assert len(told) == steps / 2, "two of four were finished"
    for name in ("model.safetensors", "label_prototypes.npy", "left_out.npy"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
