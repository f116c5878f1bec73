"""Objectives whose right answer is known from exhaustive runs, and what ``adapt`` decides on them.

In: data sets (TAILORBIRD_TEST_DATA). Out: wrong decisions. Each objective is built from a data set by a rule that stands here; every rung
is made and measured on it with three seeds (``ladder:`` lists them all), the cheapest that passes in most of them is the right answer; then
``adapt`` decides with ``ladder: auto``. What is done is kept line by line in ``benchmarks/results/objectives.jsonl``, so that a run that
was ended goes on. All of it takes many hours on two cores: ``OBJECTIVES=3`` does the first three.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cases import DATA, ROOT

RESULTS = ROOT / "benchmarks" / "results" / "objectives.jsonl"
WORK = ROOT / ".cache" / "benchmarks" / "objectives"
SEEDS = (20, 21, 22)
RUNGS = ("prompt", "nearest", "lora", "full")
#: Rungs as an answer names them; the floor stands beside the ladder, and is the answer where it passes and no rung is better.
NONE, FLOOR = "none passes", "floor"


@dataclass(frozen=True)
class Spec:
    """An objective: ``labels`` of a data set, ``train`` rows a label, ``measured`` rows a label for dev and test together, the ``target``.

    ``noise`` is the share of training labels that are exchanged; ``meant`` is what the builder aims at, and decides nothing.
    """

    name: str
    data: str
    labels: int
    train: int
    measured: int
    target: float
    noise: float = 0.0
    meant: str = ""


SPECS = (
    Spec("banking-10-easy", "banking77", 10, 40, 40, 0.80, meant="floor"),
    Spec("bitext-12", "bitext", 12, 40, 40, 0.90, meant="floor"),
    Spec("banking-2-few", "banking77", 2, 12, 60, 0.80, meant="prompt or nearest"),
    Spec("banking-3-few", "banking77", 3, 10, 60, 0.75, meant="prompt or nearest"),
    Spec("bitext-4-few", "bitext", 4, 10, 60, 0.75, meant="prompt or nearest"),
    Spec("banking-20", "banking77", 20, 40, 30, 0.88, meant="lora"),
    Spec("banking-40", "banking77", 40, 30, 25, 0.80, meant="lora"),
    Spec("bitext-27", "bitext", 27, 30, 25, 0.95, meant="lora"),
    Spec("banking-77-10", "banking77", 77, 10, 15, 0.70, meant="larger lora"),
    Spec("banking-77-40", "banking77", 77, 40, 20, 0.88, meant="larger lora"),
    Spec("banking-77-40-high", "banking77", 77, 40, 20, 0.90, meant="full"),
    Spec("unfair-8", "unfair_tos", 8, 30, 20, 0.70, meant="full"),
    Spec("banking-10-noise", "banking77", 10, 20, 40, 0.95, noise=0.5, meant=NONE),
    Spec("bitext-12-noise", "bitext", 12, 20, 40, 0.99, noise=0.6, meant=NONE),
)


def rows_of(name: str) -> list[tuple[str, str]]:
    """Texts with one label each, of a data set."""
    if name == "unfair_tos":
        lines = (DATA / "unfair_tos" / "unfair_tos_en.jsonl").read_text(encoding="utf-8").splitlines()
        return list(_unfair(json.loads(line) for line in lines))
    path, text, label = {
        "banking77": (DATA / "banking77" / "train.csv", "text", "category"),
        "bitext": (DATA / "bitext_support" / "bitext_27answers_6480.csv", "instruction", "intent"),
    }[name]
    with path.open(encoding="utf-8", newline="") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file)]


def _unfair(documents: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Sentences that bear exactly one label."""
    for document in documents:
        labels = document.get("labels") or document.get("label") or []
        text = document.get("text") or document.get("sentence") or ""
        found = labels if isinstance(labels, list) else [labels]
        if len(found) == 1 and text:
            yield text, str(found[0])


def build(spec: Spec, folder: Path, seed: int, ladder: Any) -> Path:
    """Writes the objective of ``spec`` into ``folder``; equal spec and seed give equal rows."""
    drawn = random.Random(f"{spec.name}/rows")
    rows = rows_of(spec.data)
    labels = sorted(label for label, count in Counter(label for _, label in rows).items() if count >= spec.measured + 10)
    chosen = set(drawn.sample(labels, spec.labels))
    by_label: dict[str, list[str]] = {}
    for text, label in drawn.sample(rows, len(rows)):
        if label in chosen and len(by_label.setdefault(label, [])) < spec.train + spec.measured:
            by_label[label].append(text)
    folder.mkdir(parents=True)
    sources = [_write(folder, split, part) for split, part in _parts(spec, by_label, drawn)]
    content = {
        "name": spec.name,
        "tenant": "bench",
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "limited"},
        "task": {"kind": "classify", "instruction": "Classify the message."},
        "data": sources,
        "kpis": [{"metric": "accuracy", "target": spec.target}],
        "budget": {"money": 1000, "hours": 100},
        "ladder": ladder,
        "seed": seed,
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _parts(spec: Spec, by_label: dict[str, list[str]], drawn: random.Random) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Measured rows first, so that a rare label gives up training rows."""
    half, names = spec.measured // 2, sorted(by_label)
    train = [(text, label) for label in names for text in by_label[label][spec.measured :]]
    yield "train", [(text, drawn.choice(names) if drawn.random() < spec.noise else label) for text, label in train]
    yield "dev", [(text, label) for label in names for text in by_label[label][:half]]
    yield "test", [(text, label) for label in names for text in by_label[label][half : spec.measured]]


def _write(folder: Path, split: str, rows: list[tuple[str, str]]) -> dict[str, Any]:
    with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return {"path": f"{split}.csv", "split": split, "source": {"origin": "benchmark", "license": "see the data set"}}


def climbed(spec: Spec, seed: int, ladder: Any) -> dict[str, Any]:
    """What ``adapt`` measured and decided, in a workspace of its own."""
    folder = WORK / f"{spec.name}-{seed}-{'auto' if ladder == 'auto' else 'all'}"
    shutil.rmtree(folder, ignore_errors=True)
    path = build(spec, folder / "job", seed, ladder)
    for arguments in (("init", "--tenant", "bench"), ("adapt", str(path), "--json")):
        command = [sys.executable, "-m", "tailorbird.cli.main", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{spec.name}: {arguments[0]} failed: {done.stderr[-1500:]}")
    shown = subprocess.run(
        [sys.executable, "-m", "tailorbird.cli.main", "runs", "show", _run_id(folder), "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    ladder_found = json.loads(shown.stdout)["ladder"]
    shutil.rmtree(folder, ignore_errors=True)
    climbs = ladder_found["climbs"] + ([ladder_found["floor"]] if ladder_found["floor"] else [])
    return {
        "rungs": {f"{one['rung']} {one['variant']}": one["gate"]["verdict"] for one in climbs},
        "chosen": next((f"{one['rung']} {one['variant']}" for one in climbs if one["candidate"] == ladder_found["chosen"]), None),
        "reason": ladder_found["reason"],
    }


def _run_id(folder: Path) -> str:
    listed = subprocess.run(
        [sys.executable, "-m", "tailorbird.cli.main", "runs", "list", "--json"], cwd=folder, capture_output=True, text=True, check=True
    )
    found = json.loads(listed.stdout)
    return str((found["runs"] if isinstance(found, dict) else found)[0]["id"])


def answer(found: dict[str, Any]) -> str:
    """The cheapest that passes: the floor, a rung, or none."""
    passing = [name for name, verdict in found["rungs"].items() if verdict == "pass"]
    if any(name.startswith("tf-idf") or name.startswith("floor") for name in passing):
        return FLOOR
    return next((name for name in found["rungs"] if name in passing), NONE)


def decided(found: dict[str, Any]) -> str:
    """What ``adapt`` said, in the same words."""
    return FLOOR if "classical reference passes" in found["reason"] else found["chosen"] or NONE


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them. Does what is missing first."""
    known = _known()
    for spec in SPECS[: int(os.environ.get("OBJECTIVES", "1" if quick else str(len(SPECS))))]:
        for seed in SEEDS:
            for kind, ladder in (("exhaustive", list(RUNGS)), ("decision", "auto")):
                if (spec.name, seed, kind) not in known:
                    found = climbed(spec, seed, ladder)
                    _append({"objective": spec.name, "seed": seed, "kind": kind, **found})
                    print(f"{spec.name}, seed {seed}, {kind}: {found['chosen']}", file=sys.stderr, flush=True)
    known = _known()
    rows = [_compared(spec, known) for spec in SPECS if (spec.name, SEEDS[-1], "decision") in known]
    return {"wrong_decisions": float(sum(row["wrong"] for row in rows))}, {"objectives": rows, "done": len(rows), "of": len(SPECS)}


def _compared(spec: Spec, known: dict[tuple[str, int, str], dict[str, Any]]) -> dict[str, Any]:
    right = Counter(answer(known[spec.name, seed, "exhaustive"]) for seed in SEEDS).most_common(1)[0][0]
    said = Counter(decided(known[spec.name, seed, "decision"]) for seed in SEEDS).most_common(1)[0][0]
    return {"objective": spec.name, "meant": spec.meant, "right": right, "decided": said, "wrong": right != said}


def _known() -> dict[tuple[str, int, str], dict[str, Any]]:
    if not RESULTS.is_file():
        return {}
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {(line["objective"], line["seed"], line["kind"]): line for line in lines}


def _append(line: dict[str, Any]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
