"""Encoders tuned for labels, on a toy encoder: what is learned, saved, and read back where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.tiny_encoder import LABELS, text_of, tuning_settings, write_tiny_encoder
from tailorbird.domain.errors import InvalidInput
from tailorbird.inference import open_encoder
from tailorbird.ports.trainer import LabelJob, LabelledText
from tailorbird.text.label_rules import read_prototypes
from tailorbird.training import open_trainer
from tailorbird.training.encoder import WITHOUT, rows_of

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


def closeness(vectors_NH: NDArray[np.float32]) -> float:
    """How much closer texts of one label lie than those of two, as a cosine."""
    cosines_NN = vectors_NH @ vectors_NH.T
    same_NN = np.equal.outer(np.arange(len(vectors_NH)) % 2, np.arange(len(vectors_NH)) % 2)
    return float(cosines_NN[same_NN].mean() - cosines_NN[~same_NN].mean())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_texts_of_one_label_come_to_lie_together(base: Path, tmp_path: Path, method: str) -> None:
    made = open_trainer().tune(job_of(base, tmp_path, method), lambda _: None)
    assert made.report.best_held_out_loss < 0.9 * made.report.first_held_out_loss
    texts, encoder = [text_of(number) for number in range(40)], open_encoder()
    tuned = encoder.embed(base, texts, made.folder) if method == "lora" else encoder.embed(made.folder, texts)
    assert closeness(tuned) > closeness(encoder.embed(base, texts)) + 0.1


@pytest.mark.parametrize(("method", "precision"), [("full", "fp32"), ("full", "bf16"), ("lora", "fp32"), ("lora", "bf16")])
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


def test_rows_without_a_label_are_others_in_each_pass(base: Path, tmp_path: Path) -> None:
    rows = (*(labelled(number, many=False) for number in range(5)), *(LabelledText(text=f"w{number}", labels=()) for number in range(40)))
    passes = rows_of(job_of(base, tmp_path, many=True, train=rows))
    assert passes.in_a_pass == 5 * (1 + WITHOUT) == len(passes.of_pass(1, 0))
    learned = [passes.of_pass(1, epoch) for epoch in range(8)]
    assert all(sum(bool(row.labels) for row in each) == 5 for each in learned)
    assert len({row.text for each in learned for row in each if not row.labels}) == 40
    assert passes.of_pass(1, 3) == learned[3]
    assert rows_of(job_of(base, tmp_path, train=rows[:5])).of_pass(1, 0) != list(rows[:5])


def test_batches_hold_rows_of_like_length_and_all_of_a_pass(base: Path, tmp_path: Path) -> None:
    rows = tuple(LabelledText(text="w1 " * (1 + 7 * number % 64), labels=("odd",)) for number in range(64))
    passes = rows_of(job_of(base, tmp_path, many=True, train=rows))
    batches = passes.batches(1, 0, 8)
    assert sorted(len(row.text) for batch in batches for row in batch) == sorted(len(row.text) for row in rows)
    assert max(max(len(row.text) for row in batch) - min(len(row.text) for row in batch) for batch in batches) == 21
    assert batches != passes.batches(1, 1, 8)


def test_all_passes_are_made_and_the_last_weights_kept(base: Path, tmp_path: Path) -> None:
    told = open_trainer().tune(job_of(base, tmp_path, many=True), lambda _: None).report
    assert told.best_step == told.steps == told.history[-1].steps
    assert told.stopped_early is None


def test_rows_that_bear_nothing_at_all_are_learned_as_they_are(base: Path, tmp_path: Path) -> None:
    bare = tuple(LabelledText(text=f"w{number}", labels=()) for number in range(12))
    assert rows_of(job_of(base, tmp_path, many=True, train=bare)).in_a_pass == 12
    made = open_trainer().tune(job_of(base, tmp_path, many=True, train=bare), lambda _: None)
    assert np.isfinite(read_prototypes(made.folder, len(LABELS)).weights_KH).all()


def test_a_text_longer_than_the_encoder_reads_is_cut(base: Path, tmp_path: Path) -> None:
    long = LabelledText(text=" ".join(["w1"] * 300), labels=("odd",))
    rows = (*(labelled(number, many=False) for number in range(7)), long)
    told = open_trainer().tune(job_of(base, tmp_path, train=rows, held_out=rows), lambda _: None).report
    assert told.best_held_out_loss < told.first_held_out_loss


def test_the_same_job_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    first, second = (
        open_trainer().tune(job_of(base, tmp_path, workspace=tmp_path / name), lambda _: None).folder / "model.safetensors"
        for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()


def test_prototypes_are_no_part_of_what_is_told_as_trained(base: Path, tmp_path: Path) -> None:
    told = open_trainer().tune(job_of(base, tmp_path), lambda _: None).report
    assert told.trained_parameters == sum(parameter.size for parameter in _weights(base))


def _weights(base: Path) -> list[NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return [tensor for name, tensor in load_file(base / "model.safetensors").items() if not name.startswith("pooler")]


@pytest.mark.parametrize(("missing", "code"), [("train", "no_train_rows"), ("held_out", "no_train_rows")])
def test_without_rows_nothing_is_tuned(base: Path, tmp_path: Path, missing: str, code: str) -> None:
    with pytest.raises(InvalidInput) as told:
        open_trainer().tune(job_of(base, tmp_path, **{missing: ()}), lambda _: None)
    assert told.value.error_code == code
