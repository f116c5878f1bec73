"""Evaluation of candidates on one one-core raylet and on two: the demo's messages, most of them in dev, and a ladder that is climbed whole.

In: how many pairs, and how many messages each split has. Out: for each pair and side the seconds in which the candidates were measured (the
floor, which asks no language model, aside), those of the whole command, the release, and what was answered to each item.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from timed_adaptation import timed_adaptation

ROOT = Path(__file__).resolve().parents[2]
BAR, CANDIDATES = 1.6, 4
#: Messages of each split: few to learn from, so that what is timed is measuring.
SIZES = {"train": 100, "dev": 640, "test": 100}
QUICK = {"train": 120, "dev": 240, "test": 100}


def compared(pairs: int, sizes: dict[str, int]) -> dict[str, Any]:
    """The bar: how many times longer one raylet takes than two, by the median of the pairs."""
    from support.e2e import Desk

    os.environ["OMP_NUM_THREADS"] = "1"
    found = []
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for number in range(pairs):
            place = Path(folder, str(number))
            objective = write_job(place / "job", sizes, ["prompt", "lora", "full"])
            Desk(place / "new", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")))
            pair = {raylets: _adapted(place, objective, raylets) for raylets in ((1, 2) if number % 2 == 0 else (2, 1))}
            found.append(pair)
            for raylets, side in sorted(pair.items()):
                told = {name: value for name, value in side.items() if name != "answers"}
                print(f"[scale] {number + 1} on {raylets}: {told}", file=sys.stderr, flush=True)
    ratios = [pair[1]["measuring"] / pair[2]["measuring"] for pair in found]
    whole = [pair[1]["seconds"] / pair[2]["seconds"] for pair in found]
    same = all(pair[1]["release"] == pair[2]["release"] and pair[1]["answers"] == pair[2]["answers"] for pair in found)
    enough = all(len(side["steps"]) >= CANDIDATES for pair in found for side in pair.values())
    told = [{str(raylets): side | {"answers": len(side["answers"])} for raylets, side in pair.items()} for pair in found]
    bar = {"value": round(median(ratios), 3), "bar": BAR, "unit": "ratio", "less_is_better": False, "same_release_and_answers": same}
    bar |= {"whole_adapt": round(median(whole), 3), "messages": sizes, "load": round(os.getloadavg()[0], 1), "pairs": told}
    return bar | {"holds": same and enough and median(ratios) >= BAR}


def write_job(folder: Path, sizes: dict[str, int], ladder: list[str]) -> Path:
    """An objective in ``folder`` about so many of the demo's messages, which every candidate of ``ladder`` reaches; trained in one pass."""
    folder.mkdir(parents=True)
    demo = ROOT / "examples" / "support_desk"
    content = yaml.safe_load((demo / "objective.yaml").read_text(encoding="utf-8"))
    with (demo / "messages.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    source, begin = content["data"][0], 0
    content["data"] = []
    for split, count in sizes.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows[begin : begin + count]])
        content["data"].append(source | {"path": f"{split}.csv", "split": split})
        begin += count
    content |= {
        "ladder": ladder,
        "kpis": [
            {"metric": "accuracy", "target": 0.05, "because": "every candidate is to pass: what is measured here is how long it takes"}
        ],
        "floor": {"role": "reference", "vectors": False},
        "lora": {"epochs": 1},
        "full": {"epochs": 1},
    }
    del content["limits"]
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _adapted(place: Path, objective: Path, raylets: int) -> dict[str, Any]:
    """One ``adapt``, on so many raylets of one core each."""
    from support.ray_cluster import ray_cluster

    workspace = place / f"workspace-{raylets}"
    with ray_cluster(place, *[1] * raylets) as cluster:
        found = timed_adaptation(workspace, objective, cluster.environment | {"TAILORBIRD_COMPUTE": "ray"})
    measured = {name: taken for name, taken in found.steps.items() if name.startswith("measure ")}
    told = {"seconds": found.seconds, "measuring": round(sum(measured.values()), 1), "release": found.release}
    helped = sum("an idle node answers part of the items" in line for line in found.progress.splitlines())
    return (
        told
        | {"steps": measured, "others": {name: each for name, each in found.steps.items() if name not in measured}, "helped": helped}
        | {"answers": _answers(workspace)}
    )


def _answers(workspace: Path) -> list[str]:
    """Every candidate's answer to every item of dev, in order."""
    from tailorbird import settings, wiring
    from tailorbird.domain.evidence import ItemResult
    from tailorbird.domain.ladder import Ladder

    deps = wiring.open_dependencies(settings.load_settings(workspace))
    try:
        with deps.ledger.work("acme", write=False) as work:
            (ladder,) = [work.records.get(Ladder, digest) for digest in work.records.digests(Ladder)]
        lines = [line for climb in ladder.climbs for line in deps.artifacts.get(climb.evidence.items).splitlines()]
    finally:
        deps.ledger.close()
    return [f"{item.item} {item.prediction}" for item in map(ItemResult.model_validate_json, lines)]
