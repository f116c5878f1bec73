"""Kills a real story at many points, one story a point: ``python benchmarks/ledger/kill_points_bar.py [--quick | --points N]``.

A prompt and an adapter of the small model are compared over a few rows of the support desk example. Once the story runs undisturbed; then,
for every point, once until it is killed with SIGKILL and on, by the same command, to its end. Points are both sides and the inside of the
transaction that ends each step, moments of the training, and times drawn at random. A story counts when it ends with the release of the
undisturbed one, its log verifies, no step was done twice and the sealed test was looked at once. Progress goes to stderr; the last line of
stdout is the result.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "faults"))

from fault_kit import Desk, Ending, ending_of
from moments import BOUNDARIES, Kill

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: Points that the bar asks for, and how many of those in a full run are moments of training and times drawn at random.
BAR, IN_TRAINING, AT_RANDOM = 40, 8, 6
#: Points of a quick run.
QUICK = 3
INTENTS, ROWS_EACH = ("refund_missing", "order_status"), 24
SEED = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills a real story at many points.")
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK} points")
    parser.add_argument("--points", type=int, default=0, metavar="N", help="only N points, spread over all")
    given = parser.parse_args()
    bar = measure(QUICK if given.quick else given.points)
    print(json.dumps({"kill_points_same_digest": bar}))
    return 1 if bar["holds"] is False else 0


def measure(only: int = 0) -> dict[str, Any]:
    """The bar, measured at ``only`` so many points or at all."""
    with tempfile.TemporaryDirectory(prefix="tailorbird-kills-") as place:
        folder = Path(place)
        template = prepare(folder)
        undisturbed = tell(template.copy(folder / "undisturbed"), folder / "moments")
        points = spread(all_points(undisturbed, folder / "moments"), only)
        started = time.monotonic()
        ended = [survives(template, folder / "story", point, undisturbed.ending) for point in points]
    return {
        "value": sum(ended),
        "of": len(points),
        "bar": BAR,
        "unit": "points",
        "holds": all(ended) and len(ended) >= BAR if not only or not all(ended) else None,
        "in": "full",
        "story_seconds": round(undisturbed.seconds, 1),
        "story_cpu_seconds": round(undisturbed.cpu_seconds, 1),
        "seconds": round(time.monotonic() - started),
        "digest": undisturbed.ending.release,
    }


def prepare(folder: Path) -> Desk:
    """A workspace with the small model at hand, and the job."""
    from tailorbird.inference import open_model_reader
    from tailorbird.models import pull

    models = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
    pull("smollm2-135m", models, open_model_reader, say)
    desk = Desk.new(folder / "template", write_job(folder / "job"))
    (desk.workspace / "models").symlink_to(models)
    return desk


def write_job(folder: Path) -> Path:
    """The objective: the shortest messages of two intents, a ladder of two rungs, a target that any of them reaches."""
    folder.mkdir()
    with (ROOT / "examples" / "support_desk" / "messages.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["intent"]) for row in csv.DictReader(file)]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for intent in INTENTS:
            writer.writerows(sorted((row for row in rows if row[1] == intent and row[0]), key=lambda row: len(row[0]))[:ROWS_EACH])
    content = {
        "name": "desk",
        "tenant": "acme",
        "business": {"goal": "Route messages.", "owner": "support", "risk": "limited"},
        "task": {"kind": "classify", "instruction": "Classify the customer message into one intent."},
        "data": [{"path": "rows.csv", "source": {"origin": "the support desk example", "license": "Apache-2.0"}}],
        "kpis": [{"metric": "accuracy", "target": 0.05}],
        "ladder": ["prompt", "lora"],
        "budget": {"hours": 2},
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Told:
    """A story that was told to its end, and what it took: seconds, and seconds of all cores."""

    ending: Ending
    seconds: float
    cpu_seconds: float


def tell(desk: Desk, moments: Path) -> Told:
    """The undisturbed story; every moment that it passes stands in ``moments``."""
    say("the undisturbed story")
    started, used = time.monotonic(), os.times()
    status = adapt(desk, None, moments)
    assert status == 0, log_of(desk)
    spent = os.times()
    cpu = spent.children_user + spent.children_system - used.children_user - used.children_system
    told = Told(ending_of(desk), time.monotonic() - started, cpu)
    say(f"{told.seconds:.1f} s ({told.cpu_seconds:.1f} s of all cores), release {told.ending.release}")
    shutil.rmtree(desk.workspace)
    return told


def all_points(told: Told, moments: Path) -> list[Kill]:
    """Where to kill, in the order of the story; the times drawn at random come last."""
    passed = Counter(moments.read_text(encoding="utf-8").splitlines())
    boundaries = [Kill(boundary + step) for step in told.ending.steps for boundary in BOUNDARIES]
    training = [
        Kill(moment, nth)
        for moment in ("a step of training", "a checkpoint is flushed")
        for nth in _evenly(range(1, passed[moment] + 1), IN_TRAINING // 2)
    ]
    draw = random.Random(SEED)
    return boundaries + training + [Kill(after=round(draw.uniform(1.0, told.seconds * 0.9), 2)) for _ in range(AT_RANDOM)]


def spread(points: list[Kill], only: int) -> list[Kill]:
    return list(_evenly(points, only)) if only else points


def _evenly(items: Any, count: int) -> list[Any]:
    """``count`` of the items, evenly spread, none of them the first or the last where there is a choice."""
    return [items[(2 * n + 1) * len(items) // (2 * count)] for n in range(count)] if count < len(items) else list(items)


def survives(template: Desk, place: Path, point: Kill, undisturbed: Ending) -> bool:
    """Whether the story that is killed at ``point`` ends as the undisturbed one does."""
    desk, started = template.copy(place), time.monotonic()
    status = adapt(desk, point)
    killed = status == -signal.SIGKILL
    if killed:
        status = adapt(desk, None)
    same = killed and status == 0 and _same(desk, undisturbed)
    name = f"after {point.after} s" if point.after else f"{point.moment} ({point.nth})"
    say(f"{'same' if same else 'NOT THE SAME'}: {name}, {time.monotonic() - started:.1f} s")
    if not same:
        say(f"status {status}, {'killed' if killed else 'never killed'}\n{log_of(desk)}")
    shutil.rmtree(place)
    return same


def _same(desk: Desk, undisturbed: Ending) -> bool:
    try:
        return ending_of(desk) == undisturbed
    except (AssertionError, ValueError) as error:
        say(f"{type(error).__name__}: {error}")
        return False


def adapt(desk: Desk, kill: Kill | None, moments: Path | None = None) -> int:
    """``tailorbird adapt`` in a process of its own; its exit status, or minus the signal that it died of."""
    given = json.dumps(asdict(kill) if kill else None)
    command = [sys.executable, str(HERE / "killed_story.py"), given, str(moments or ""), "adapt", str(desk.objective)]
    environment = os.environ | {"TAILORBIRD_WORKSPACE": str(desk.workspace), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (desk.workspace / "calls.log").open("ab") as log:
        return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode


def log_of(desk: Desk) -> str:
    """The end of what the processes said."""
    return (desk.workspace / "calls.log").read_text(encoding="utf-8", errors="replace")[-3000:]


if __name__ == "__main__":
    sys.exit(main())
