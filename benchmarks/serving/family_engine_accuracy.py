"""Accuracy of our engine's number formats, in pairs: Banking77, 77 intents, an adapter that learned ten messages of each.

Weights in int8 against bf16, and bf16 with the adapter in int8, as the native pass holds it, against fp32 throughout.

Rows to learn and rows to compare by are drawn by hash from the train file; the official test is not read: looks at it are counted. The
adapter is trained in bf16, and trained once. All forms answer the same rows; the bar is the paired difference, and beside it stand its 95 %
interval, how many answers differ and the KL divergence of the labels' distributions, in nats.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines import ROOT, WORK, base_model
from run import Bar, Measured, say

from tailorbird.chat.prompts import messages_for_row
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference import open_engine
from tailorbird.ports.trainer import Example, TrainingJob
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.training import open_trainer

#: Not worse by more than half a point.
BARS: dict[str, Bar] = {
    "int8_minus_bf16_accuracy": (-0.005, 0.0, "difference", False),
    "bf16_minus_fp32_accuracy": (-0.005, 0.0, "difference", False),
}
LEARNED, COMPARED, BATCH = 10, 13, 32
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DIGEST = digest_bytes(b"engine_accuracy")


def measure(quick: bool) -> Measured:
    learned, compared = _drawn()
    if quick:
        compared = compared[:: len(compared) // 64][:64]
    labels = sorted({row.target for row in learned})
    prompt = PromptSpec(instruction="Classify the customer's message.", labels=tuple(labels), list_labels=False)
    adapter = _trained(learned, prompt, 1 if quick else 4)
    answers = {precision: _answers(precision, adapter, prompt, compared) for precision in ("fp32", "bf16", "int8")}
    return _told(answers, labels, compared)


def _drawn() -> tuple[list[Example], list[Example]]:
    """Rows to learn, and rows to compare by."""
    data, texts = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data")), defaultdict[str, set[str]](set)
    with (data / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            texts[line["category"].replace("_", " ")].add(line["text"].strip())
    learned, compared = list[Example](), list[Example]()
    for label in sorted(texts):
        order = sorted(texts[label], key=lambda text: hashlib.sha256(text.encode()).digest())
        rows = [Example(text=text, target=label) for text in order]
        learned, compared = learned + rows[:LEARNED], compared + rows[LEARNED : LEARNED + COMPARED]
    return learned, compared


def _trained(learned: Sequence[Example], prompt: PromptSpec, epochs: int) -> Path:
    """The adapter's folder; trained once for each number of passes."""
    folder = WORK / "accuracy" / str(epochs)
    settings = TrainingSettings(
        method="lora", lora=LoraSettings(rank=16, alpha=32, targets=TARGETS), learning_rate=5e-4, epochs=epochs, batch_size=16,
        token_budget=2048, max_length=512, warmup=0.1, weight_decay=0.0, clip_norm=1.0, evaluations_per_epoch=1, precision="bf16", seed=7,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    job = TrainingJob(
        base=base_model(), base_digest=DIGEST, snapshot=DIGEST, settings=settings, prompt=prompt, train=tuple(learned),
        held_out=tuple(learned[:: len(learned) // 50]), workspace=folder / "work", results=folder / "results",
    )  # fmt: skip
    done = next((path.parent for path in folder.rglob("adapter_config.json")), None)
    return done or open_trainer().train(job, lambda line: say(f"step {line.step}: {line.held_out_loss or 0:.3f}")).folder


def _answers(precision: Any, adapter: Path, prompt: PromptSpec, rows: Sequence[Example]) -> list[dict[str, float]]:
    """Log-probabilities of the labels, of each row."""
    engine = open_engine(precision)
    named = {
        "id": DIGEST,
        "tenant": "bench",
        "task": TaskKind.CLASSIFY,
        "base": str(base_model()),
        "adapter": str(adapter),
        "weights": None,
    }
    engine.load(Servable(**named, prompt=prompt))
    found = list[dict[str, float]]()
    for start in range(0, len(rows), BATCH):
        asked = [messages_for_row(prompt, row.text) for row in rows[start : start + BATCH]]
        found += [dict(zip(prompt.labels, one.log_probabilities, strict=True)) for one in engine.score(DIGEST, asked, prompt.labels)]
        say(f"{precision}: {len(found)} of {len(rows)}")
    engine.close()
    return found


def _told(answers: dict[str, list[dict[str, float]]], labels: Sequence[str], rows: Sequence[Example]) -> Measured:
    best = {precision: [max(labels, key=each.__getitem__) for each in found] for precision, found in answers.items()}
    right = {precision: [float(b == row.target) for b, row in zip(found, rows, strict=True)] for precision, found in best.items()}
    values: dict[str, float] = {}
    detail: dict[str, Any] = {"rows": len(rows)}
    detail["accuracy"] = {precision: round(sum(found) / len(rows), 4) for precision, found in right.items()}
    for one, other in (("int8", "bf16"), ("bf16", "fp32")):
        differences = [a - b for a, b in zip(right[one], right[other], strict=True)]
        low, high = paired_interval(differences, [str(at) for at in range(len(rows))], 0.95)
        sides = list(zip(answers[one], answers[other], strict=True))
        apart = [sum(math.exp(b[label]) * (b[label] - a[label]) for label in labels) for a, b in sides]
        if f"{one}_minus_{other}_accuracy" in BARS:
            values[f"{one}_minus_{other}_accuracy"] = sum(differences) / len(rows)
        detail[f"{one} against {other}"] = {
            "difference": round(sum(differences) / len(rows), 4),
            "interval": [round(low, 4), round(high, 4)],
            "answers that differ": sum(a != b for a, b in zip(best[one], best[other], strict=True)),
            "KL of the labels, nats": round(sum(apart) / len(rows), 5),
        }
    return Measured(values, detail)
