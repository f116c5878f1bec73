"""Banking77 with all 77 intents, at three sizes: every rung, tuned on dev, one look at the official test.

In: ``SIZES=10,40`` does some of the sizes (messages per intent; ``all``: everything that dev leaves of the 10,003), ``RUNGS=full`` some of
the rungs, which the table then names; a size like ``10+vectors`` is the floor alone, which then reads vectors. Out: for each size a table
of rungs with intervals and hours, and the sealed test of the chosen one. A size that is done is kept in ``results/banking77.jsonl``
(without its line it is done again); one that was broken off goes on where it was, in the workspace that it left; equal trainings are made
once. Labels are put as words, with spaces for underscores.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from beds import DATA, ROOT
from remembering import RememberingTrainer

from tailorbird import settings, wiring
from tailorbird.domain.ladder import Climb
from tailorbird.ports.trainer import Example, ReportProgress, TrainedModel, Trainer, TrainingJob
from tailorbird.usecases import Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise, key_path
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt

RESULTS = ROOT / "benchmarks" / "results" / "banking77.jsonl"
WORK = ROOT / ".cache" / "benchmarks" / "banking77"
#: ``every``: as the model on BERT's card was trained, on each of the 10,003 rows, those of dev and those nearly in the test among them.
SIZES = ("10", "40", "all", "every", "10+vectors", "40+vectors", "all+vectors")
#: Messages of each intent that choose among rungs and nothing else; the rarest intent has 35 in all, so it gives fewer.
DEV = 10
#: Low enough for a rung to pass on dev, so that the test is opened; the bar is the lower end of the interval there.
TARGETS = {"10": 0.60, "40": 0.75, "all": 0.85, "every": 0.85}
#: For all weights chosen on dev of all rows: one pass more than the planner makes there, and twice its rate. Adapters get the same passes.
WISHES = {"lora": {"epochs": 3}, "full": {"epochs": 3, "learning_rate": 2.0e-4}}
TENANT = "bench"


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The lower end of the sealed test's interval at the largest size, and all tables."""
    for size in os.environ.get("SIZES", "10" if quick else ",".join(SIZES)).split(","):
        if size not in _done():
            _append(_climbed(size))
    tables = _done()
    looked_at = {size: told["test"] for size, told in tables.items() if told["test"]}
    return {f"banking77_{size}_low": looked_at[size]["low"] for size in ("all", "every") if size in looked_at}, {"sizes": tables}


def _climbed(size: str) -> dict[str, Any]:
    """All three rungs at this size, whatever the first ones reach."""
    folder = WORK / size
    if not (folder / "settings.yaml").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settings.save_settings(folder, {"tenant": TENANT})
        (folder / "models").symlink_to(ROOT / ".cache" / "models")
    deps = wiring.open_dependencies(settings.load_settings(folder))
    trainer: Trainer = RememberingTrainer(deps.trainer(), WORK / "trained")
    if size == "every":
        trainer = _OnEveryRow(trainer)
    deps = replace(deps, trainer=lambda: trainer)
    if not key_path(deps, TENANT, "author").is_file():
        initialise(deps, TENANT, FIRST_PEOPLE)
    author = act_as(deps, TENANT, "author", key_path(deps, TENANT, "author"))
    done = adapt(
        deps, author, _objective(size, folder / "job"), Progress(tell=lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    )
    return _told(size, show_run(deps, author, done.run.id))


class _OnEveryRow:
    """Trains on all 10,003 rows in place of those that it is given; held out is what it learns too, so that no row chooses the weights:
    its loss falls to the end, and the last step counts."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        rows = tuple(Example(text=text, target=label) for text, label in _rows("train"))
        return self._trainer.train(job.model_copy(update={"train": rows, "held_out": rows[:: len(rows) // 100]}), report)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)


def _objective(size: str, folder: Path) -> Path:
    """The same rows whenever it is asked for."""
    folder.mkdir(exist_ok=True)
    train, official = _rows("train"), _rows("test")
    by_intent: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in train:
        by_intent[row[1]].append(row)
    rows_of_each, _, vectors = size.partition("+")
    most = int(rows_of_each) if rows_of_each.isdecimal() else None
    splits = {
        "dev": [row for rows in by_intent.values() for row in rows[: min(DEV, len(rows) // 3)]],
        "train": [row for rows in by_intent.values() for row in rows[min(DEV, len(rows) // 3) :][:most]],
        "test": official,
    }
    source = {"origin": "PolyAI banking77", "license": "CC-BY-4.0", "collected": "2020-03", "consent": "public"}
    for split, rows in splits.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    content = {
        "name": f"banking77-{size.replace('+', '-')}",
        "tenant": TENANT,
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "minimal"},
        "task": {"kind": "classify", "instruction": "Which intent does this message of a bank's customer have?"},
        "data": [{"path": f"{split}.csv", "text": "text", "label": "label", "split": split, "source": source} for split in splits],
        "kpis": [{"metric": "accuracy", "target": TARGETS[rows_of_each]}],
        "limits": {"latency_p95_ms": {"at_concurrency": 32, "max": 1e9}},
        "budget": {"money": 1000, "hours": 100},
        "ladder": ["floor"] if vectors else os.environ.get("RUNGS", "prompt,lora,full").split(","),
        "floor": {"vectors": bool(vectors)},
    } | WISHES
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _rows(split: str) -> list[tuple[str, str]]:
    with (DATA / "banking77" / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["category"].replace("_", " ")) for row in csv.DictReader(file)]


def _told(size: str, found: RunReport) -> dict[str, Any]:
    assert found.ladder is not None
    assert found.manifest is not None
    climbs = [*((found.ladder.floor,) if found.ladder.floor else ()), *found.ladder.climbs]
    test = found.evidence.metrics["accuracy"] if found.evidence else None
    return {
        "size": size,
        "rows": found.manifest.counts.model_dump(),
        "hours": round(sum(climb.seconds for climb in climbs) / 3600, 3),
        # Where dev was learned it tells nothing.
        "dev": [_rung(climb) for climb in climbs if size != "every" or climb is found.ladder.floor],
        "chosen": next((f"{c.rung.value} {c.variant}" for c in climbs if c.candidate == found.ladder.chosen), None),
        "reason": found.ladder.reason,
        "test": {"value": test.value, "low": test.low, "high": test.high} if test else None,
    }


def _rung(climb: Climb) -> dict[str, Any]:
    metric = climb.evidence.metrics["accuracy"]
    interval = {"value": metric.value, "low": metric.low, "high": metric.high}
    return {
        "rung": f"{climb.rung.value} {climb.variant}",
        "hours": round(climb.seconds / 3600, 3),
        "verdict": climb.gate.verdict.value,
    } | interval


def _done() -> dict[str, dict[str, Any]]:
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    return {told["size"]: told for told in map(json.loads, lines)}


def _append(told: dict[str, Any]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")
