"""Short trainings with ten seeds: how many of them learn, with and without passes that are added while a run stands on its plateau.

In: ``SEEDS=20,21`` and ``BEDS=wishes`` do some of them; ``ADDED=no`` trains without passes added. Out: for each bed how many seeds learn; one
line a training in ``results/seeds.jsonl`` (without its line it is done again). A seed chooses the rows held out, their order, and the
adapter's first weights. Settings are the planner's for so many rows (docs/planning.md).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from beds import _INSTRUCTIONS, ROOT, Bed, _parts
from cases import ALL_LINEAR, DIGEST, base_folder

from tailorbird.chat.prompts import messages_for
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference import open_engine
from tailorbird.ports.trainer import Example, TrainedModel, TrainingJob
from tailorbird.training import open_trainer

RESULTS = ROOT / "benchmarks" / "results" / "seeds.jsonl"
#: Beds, and the accuracy from which a run counts as one that learned. ``blimp`` is agreement in number, chance 0.5.
BEDS = {
    "wishes": (Bed("wishes", "wishes", labels=12, train=24, truth=14, dev=14), 0.9),
    "blimp": (Bed("blimp", "blimp", labels=2, train=120, truth=60, dev=30), 0.9),
    "banking8": (Bed("bank8", "banking77", labels=8, train=8, truth=20, dev=10), 0.7),
    "bitext": (Bed("bitext", "bitext", labels=12, train=10, truth=14, dev=10), 0.9),
}
SEEDS = tuple(range(20, 30))
BATCH, MEASURED = 16, 168


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """How many seeds learn on the beds where it was seen that it depends on them, and every training."""
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "20" if quick else ",".join(map(str, SEEDS))).split(",")]
    beds = os.environ.get("BEDS", "wishes,blimp").split(",")
    adds = os.environ.get("ADDED", "yes") == "yes"
    for bed in beds:
        for seed in seeds:
            if not any((line["bed"], line["seed"], line["adds"]) == (bed, seed, adds) for line in _done()):
                _append(_trained(bed, seed, adds))
                print(f"  {json.dumps(_done()[-1])}", file=sys.stderr, flush=True)
    told = {bed: [line for line in _done() if line["bed"] == bed and line["adds"]] for bed in BEDS}
    learned = {bed: sum(line["accuracy"] >= BEDS[bed][1] for line in lines) for bed, lines in told.items()}
    whole = {f"{bed}_seeds_that_learn": float(learned[bed]) for bed in ("wishes", "blimp") if len(told[bed]) >= len(SEEDS)}
    return whole, {"trainings": _done()}


def _trained(name: str, seed: int, adds: bool) -> dict[str, Any]:
    bed = BEDS[name][0]
    parts = _parts(bed)
    with tempfile.TemporaryDirectory() as folder:
        job = _job(bed, parts["train"], seed, adds, Path(folder))
        made = open_trainer().train(job, lambda _: None)
        accuracy = _accuracy(job, made, parts["truth"])
    report = made.report
    return {
        "bed": name,
        "seed": seed,
        "adds": adds,
        "accuracy": round(accuracy, 3),
        "steps": report.steps,
        "plateau": report.plateau.model_dump(mode="json") if report.plateau else None,
        "seconds": round(report.seconds, 1),
    }


def _job(bed: Bed, rows: list[tuple[str, str]], seed: int, adds: bool, workspace: Path) -> TrainingJob:
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row[0]}".encode()).digest())
    held_out = -(-len(rows) // 10)
    per_pass = -(-(len(rows) - held_out) // BATCH)
    passes = min(10, max(3, -(-100 // per_pass)))
    settings = TrainingSettings(
        method="lora",
        lora=LoraSettings(rank=16, alpha=32, targets=ALL_LINEAR),
        learning_rate=1.5e-3 if passes * per_pass < 200 else 1e-3,
        epochs=passes,
        batch_size=BATCH,
        token_budget=1024,
        max_length=4096,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1 if passes > 3 else 2,
        precision="bf16",
        seed=seed,
        waiting_epochs=passes if adds else 0,
    )
    examples = [Example(text=text, target=label) for text, label in order]
    return TrainingJob(
        base=base_folder("smollm2"),
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings,
        prompt=PromptSpec(instruction=_INSTRUCTIONS[bed.data], labels=tuple(sorted({label for _, label in rows}))),
        train=tuple(examples[held_out:]),
        held_out=tuple(examples[:held_out]),
        workspace=workspace,
    )


def _accuracy(job: TrainingJob, made: TrainedModel, rows: list[tuple[str, str]]) -> float:
    engine, labels = open_engine("bf16"), job.prompt.labels
    servable = Servable(
        id=DIGEST,
        tenant="bench",
        task=TaskKind.CLASSIFY,
        base=str(job.base),
        adapter=str(made.folder),
        weights=None,
        prompt=job.prompt,
    )
    engine.load(servable)
    asked = random.Random(5).sample(rows, min(MEASURED, len(rows)))
    scores = [engine.score(DIGEST, [messages_for(job.prompt, text)], labels)[0].log_probabilities for text, _ in asked]
    engine.close()
    hits = sum(labels[one.index(max(one))] == label for one, (_, label) in zip(scores, asked, strict=True))
    return hits / len(asked) if asked else math.nan


def _done() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.is_file() else []


def _append(line: dict[str, Any]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
