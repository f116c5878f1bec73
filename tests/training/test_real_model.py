"""The real model on real messages."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from support.training_samples import ALL_LINEAR, DIGEST, settings
from tailorbird.domain.plan import LoraSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.trainer import Example, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.batches import RowTokenizer

#: PEFT asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def messages(test_data: Path) -> list[Example]:
    chosen = {"card_arrival", "lost_or_stolen_card", "exchange_rate", "verify_my_identity"}
    with (test_data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [Example(text=row["text"], target=row["category"]) for row in csv.DictReader(file) if row["category"] in chosen]
    return [rows[i] for i in range(0, len(rows), len(rows) // 40)][:40]


@pytest.mark.slow
def test_lora_learns_and_stock_peft_computes_the_same(base_model_folder: Path, messages: list[Example], tmp_path: Path) -> None:
    labels = tuple(sorted({example.target for example in messages}))
    job = TrainingJob(
        base=base_model_folder,
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings(
            lora=LoraSettings(rank=8, alpha=16, targets=ALL_LINEAR),
            learning_rate=1e-3,
            batch_size=8,
            token_budget=1024,
            max_length=512,
            epochs=1,
        ),
        prompt=PromptSpec(instruction="Classify the customer message into one intent.", labels=labels, list_labels=True),
        train=tuple(messages[:32]),
        held_out=tuple(messages[32:]),
        workspace=tmp_path,
    )
    trained = open_trainer().train(job, lambda _: None)
    assert trained.report.best_held_out_loss < 0.5 * trained.report.first_held_out_loss
    assert trained.report.trained_parameters == 8 * 305_280
    held_out = RowTokenizer(job.base).encode(job.prompt, job.held_out)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model_folder), trained.folder).eval()
    total = 0.0
    for row in held_out:
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits[0, row.prompt - 1 :]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, row.prompt :], reduction="sum"))
    mean = total / sum(len(row.ids) - row.prompt for row in held_out)
    assert mean == pytest.approx(trained.report.best_held_out_loss, rel=1e-4)
