"""The twins that only tests use keep the promises of their ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.doubles import MemoryArtifacts, MemoryModelReader, MemoryTrainer
from tailorbird.base_models import describe
from tailorbird.base_models.description import ModelDigests
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import Corrupt, InvalidInput, ModelInvalid
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import Example, TrainingJob

DIGEST = digest_bytes(b"any")


def job(workspace: Path, examples: int = 10) -> TrainingJob:
    settings = TrainingSettings(
        method="lora",
        lora=LoraSettings(rank=4, alpha=8, targets=("q_proj",)),
        learning_rate=1e-3,
        epochs=2,
        batch_size=4,
        token_budget=512,
        max_length=64,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="fp32",
        seed=1,
    )
    return TrainingJob(
        base=workspace,
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings,
        prompt=PromptSpec(instruction="Sort."),
        train=tuple(Example(text=f"text {n}", target="label") for n in range(examples)),
        held_out=(Example(text="held out", target="label"),),
        workspace=workspace,
    )


def test_the_trainer_reports_each_step_and_repeats_itself(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    first = MemoryTrainer().train(job(tmp_path / "one"), seen.append)
    second = MemoryTrainer().train(job(tmp_path / "two"), lambda _: None)
    assert tuple(seen) == first.report.history
    assert first.report.steps == 6
    assert first.report.best_held_out_loss < first.report.first_held_out_loss
    assert first.report == second.report
    assert [path.read_bytes() for path in first.folder.iterdir()] == [path.read_bytes() for path in second.folder.iterdir()]


def test_the_trainer_refuses_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        MemoryTrainer().train(job(tmp_path, examples=0), lambda _: None)


def test_the_reader_writes_a_folder_that_can_be_described(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid):
        MemoryModelReader().convert(tmp_path / "absent", tmp_path)
    MemoryModelReader().convert(tmp_path, tmp_path)
    described = describe(tmp_path, "toy", "Apache-2.0", ModelDigests(tree=DIGEST, tokenizer=DIGEST, chat_template=DIGEST))
    assert (described.hidden, described.layers, described.parameters) == (8, 2, 256)


def test_a_spoiled_artifact_is_noticed(tmp_path: Path) -> None:
    store = MemoryArtifacts(tmp_path / "read")
    digest = store.put(b"bytes")
    store.spoil(digest)
    with pytest.raises(Corrupt):
        store.get(digest)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"content")
    tree = store.put_tree(tmp_path / "folder")
    store.spoil(store.tree(tree)["file"])
    with pytest.raises(Corrupt):
        store.get_tree(tree)
