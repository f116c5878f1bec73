"""Kills a real story at many points, one story a point: ``python benchmarks/ledger/kill_points_bar.py [--quick | --points N]``.

A full run takes the better part of an hour. ``--keep FOLDER`` writes every point's result there, and a second call goes on after the last
of them; ``--sitting N`` ends a call after N points more.

A prompt and an adapter of the small model are compared over a few messages to a support desk. Once the story runs undisturbed; then,
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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from sittings import Sittings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from machine import commit

from support.faults import Desk, Ending, ending_of
from support.moments import BOUNDARIES, Kill

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
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was found there, and go on from it")
    parser.add_argument("--sitting", type=int, default=0, metavar="N", help="end after N points more; needs --keep")
    given = parser.parse_args()
    with _place(given.keep) as folder:
        bar = measure(Sittings(folder, commit()), QUICK if given.quick else given.points, given.sitting)
    print(json.dumps({"kill_points_same_digest": bar}))
    return 1 if bar["holds"] is False else 0


def _place(keep: Path | None) -> AbstractContextManager[Path]:
    """``keep``, or a folder that is gone afterwards."""
    return nullcontext(keep) if keep else _passing()


@contextmanager
def _passing() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tailorbird-kills-") as folder:
        yield Path(folder)


def measure(kept: Sittings, only: int = 0, sitting: int = 0) -> dict[str, Any]:
    """The bar, measured at ``only`` so many points or at all; ``sitting`` of them at most before it is told what is known by then."""
    folder = kept.folder.resolve()
    template = prepare(folder)
    undisturbed = Told.kept(kept) or tell(template.copy(_emptied(folder / "undisturbed")), folder / "moments", kept)
    points = spread(all_points(undisturbed, folder / "moments"), only)
    waiting = [point for point in points if point.name not in kept.results]
    for point in waiting[: sitting or None]:
        survives(template, _emptied(folder / "story"), point, undisturbed.ending, kept)
    return _bar(undisturbed, [kept.results[point.name] for point in points if point.name in kept.results], len(points))


def _bar(undisturbed: Told, found: list[dict[str, Any]], asked: int) -> dict[str, Any]:
    """What the bar says; it is open while too few points were tried and none of them ended otherwise."""
    same = sum(one["same"] for one in found)
    return {
        "value": same,
        "of": len(found),
        "points": asked,
        "bar": BAR,
        "unit": "points",
        "holds": False if same < len(found) else True if same >= BAR else None,
        "in": "full",
        "story_seconds": round(undisturbed.seconds, 1),
        "story_cpu_seconds": round(undisturbed.cpu_seconds, 1),
        "seconds": round(sum(one["seconds"] for one in found)),
        "digest": undisturbed.ending.release,
    }


def _emptied(place: Path) -> Path:
    """``place``, without what a run that was broken off left there."""
    shutil.rmtree(place, ignore_errors=True)
    return place


def prepare(folder: Path) -> Desk:
    """A workspace with the small model at hand, and the job; the one from before where there is one."""
    from tailorbird.base_models import pull
    from tailorbird.inference import open_model_reader

    models = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
    pull("smollm2-135m", models, open_model_reader, say)
    if (folder / "template" / "models").exists():
        return Desk(folder / "template", folder / "job" / "objective.yaml")
    desk = Desk.new(_emptied(folder / "template"), write_job(_emptied(folder / "job")))
    (desk.workspace / "models").symlink_to(models)
    return desk


def write_job(folder: Path) -> Path:
    """The objective: the shortest messages of two intents, a ladder of two rungs, a target that any of them reaches."""
    folder.mkdir()
    with (ROOT / "tests" / "e2e" / "support_messages.csv").open(newline="", encoding="utf-8") as file:
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
        "data": [{"path": "rows.csv", "source": {"origin": "written for this project", "license": "Apache-2.0"}}],
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

    @classmethod
    def kept(cls, kept: Sittings) -> Told | None:
        """The one that an earlier sitting told."""
        found = kept.results.get("undisturbed")
        if found is None:
            return None
        ending = found["ending"]
        return cls(Ending(ending["release"], tuple(ending["steps"]), Counter(ending["events"])), found["seconds"], found["cpu_seconds"])


def tell(desk: Desk, moments: Path, kept: Sittings) -> Told:
    """The undisturbed story; every moment that it passes stands in ``moments``."""
    say("the undisturbed story")
    moments.unlink(missing_ok=True)
    started, used = time.monotonic(), os.times()
    status = adapt(desk, None, moments)
    assert status == 0, log_of(desk)
    spent = os.times()
    cpu = spent.children_user + spent.children_system - used.children_user - used.children_system
    told = Told(ending_of(desk), time.monotonic() - started, cpu)
    say(f"{told.seconds:.1f} s ({told.cpu_seconds:.1f} s of all cores), release {told.ending.release}")
    shutil.rmtree(desk.workspace)
    ending = {"release": told.ending.release, "steps": told.ending.steps, "events": told.ending.events}
    kept.put("undisturbed", {"ending": ending, "seconds": told.seconds, "cpu_seconds": told.cpu_seconds})
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


def survives(template: Desk, place: Path, point: Kill, undisturbed: Ending, kept: Sittings) -> None:
    """Keeps whether the story that is killed at ``point`` ends as the undisturbed one does; the workspace of one that does not stays."""
    desk, started = template.copy(place), time.monotonic()
    status = adapt(desk, point)
    killed = status == -signal.SIGKILL
    if killed:
        status = adapt(desk, None)
    same, seconds = killed and status == 0 and _same(desk, undisturbed), time.monotonic() - started
    say(f"{'same' if same else 'NOT THE SAME'}: {point.name}, {seconds:.1f} s")
    if not same:
        say(f"status {status}, {'killed' if killed else 'never killed'}\n{log_of(desk)}")
        place.rename(_emptied(place.with_name(f"failed-{len(kept.results)}")))
    kept.put(point.name, {"same": same, "seconds": round(seconds, 1)})
    shutil.rmtree(place, ignore_errors=True)


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
