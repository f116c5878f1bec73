"""This checkout against an earlier commit: the same work in interleaved pairs, so that a change which slows it is seen.

In: ``--against COMMIT``, ``--pairs N``, ``--only FAMILY,...``. Out: benchmarks/results/pairs.json, and the same
as the last line of stdout: for each family the geometric mean of now/then (above 1: faster now) and its 95 % interval (Student's t over
the logarithms of the
pairs); trainings say the ratio of their peak memory, too (below 1: less now). A family holds where the lower end reaches its bar.

Each side runs ``worker.py`` of its own commit on that commit's sources, in one environment and on the same inputs; a commit from before
``worker.py`` is run by that of ``OLDEST_WORKER``. Both sides live side by side, one round of one of them at a time, in turns. Pairs during
which processes that are none of the benchmark's took more than 3 % of the cores do not count, and more are made in their place, up to
three times as many in all; how many were left out is told.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TAILORBIRD_FETCH_ENCODER", "false")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "training"), str(ROOT / "benchmarks" / "data")]

from machine import commit, machine  # noqa: E402
from rows import made_rows  # noqa: E402
from sides import Others, say  # noqa: E402

BASELINE = "1bb21283"
RESULTS = ROOT / "benchmarks" / "results" / "pairs.json"
WORK = ROOT / ".cache" / "benchmarks" / "pairs"
WORKER = "benchmarks/pairs/worker.py"
#: The commit whose worker runs commits from before there was one.
OLDEST_WORKER = "81fffe0b"
#: Packages that earlier commits import and this one no longer requires.
FORMER_PACKAGES = ("alembic", "Mako")
#: The bar of each family, and how many rounds come before those that count.
FAMILIES = {
    "lora_short": (0.86, 3),
    "lora_long": (0.95, 3),
    "full": (0.95, 3),
    "sixteen_at_a_time": (0.95, 2),
    "one_at_a_time": (0.95, 2),
    "eight_adapters": (0.95, 2),
    "curation": (0.95, 1),
    "request_cost": (0.95, 2),
}
ROWS, ADAPTERS, UNDISTURBED, MOST = 20_000, 8, 0.03, 3
"""``MOST``: so many times as many pairs as are wanted are made at most."""


class Side:
    """A worker of one commit. ``root`` holds its ``src``, ``script`` is its worker."""

    def __init__(self, family: str, root: Path, script: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        environment |= {
            "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root / 'packages'}",
            "TOKENIZERS_PARALLELISM": "false",
            "GOMP_SPINCOUNT": "1000",
        }
        environment["TAILORBIRD_MODEL_CACHE"] = str(WORK / "models")  # no encoder: both floors read words
        environment["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        self._log = folder.with_suffix(".log")
        with self._log.open("w") as log:
            command = [sys.executable, str(script), family, str(WORK / "inputs"), str(folder)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True, start_new_session=True
            )
        self.pid = self._process.pid
        self._line("ready")

    def round(self) -> dict[str, float]:
        """One round of its work."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._line())
        return found

    def end(self) -> None:
        """Lets it end by itself, and what it started with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _line(self, expected: str = "") -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or (expected and line != expected):
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"a side of {self._log.parent} failed:\n{tail}")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default=BASELINE, help=f"a commit of this repository (default: {BASELINE})")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--quick", action="store_true", help="three pairs, disturbed or not: shows that both sides run")
    options = parser.parse_args()
    then = checkout(options.against)
    make_inputs()
    result: dict[str, Any] = {"benchmark": "pairs", "machine": machine(), "commit": commit(), "against": options.against, "bars": {}}
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
        same = all(kept.get(name) == result[name] for name in ("machine", "commit", "against"))
        result["bars"] = kept["bars"] if same else {}
    for family in options.only.split(","):
        say(family)
        result["bars"][family] = measured(family, then, *((3, 1.0) if options.quick else (options.pairs, UNDISTURBED)))
        if not options.quick:
            RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def checkout(name: str) -> Path:
    """The sources of a commit with its worker, in a folder of their own."""
    whole = _git("rev-parse", "--verify", f"{name}^{{commit}}")
    folder = WORK / f"against-{whole[:12]}"
    if not (folder / WORKER).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", whole, "src"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
        script = _git("show", f"{whole if _git('ls-tree', whole, WORKER) else OLDEST_WORKER}:{WORKER}")
        (folder / WORKER).parent.mkdir(parents=True)
        (folder / WORKER).write_text(script + "\n", encoding="utf-8")
        packages = ["--no-deps", "--target", str(folder / "packages"), *FORMER_PACKAGES]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
        _write_metadata(folder / "src", tomllib.loads(_git("show", f"{whole}:pyproject.toml"))["project"])
    return folder


def _write_metadata(sources: Path, project: dict[str, Any]) -> None:
    """Installation metadata of that commit, so that its entry points are found there rather than those of this checkout."""
    metadata = sources / f"{project['name']}-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n", encoding="utf-8")
    groups = {**project.get("entry-points", {}), "console_scripts": project.get("scripts", {})}
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *(f"{name} = {where}" for name, where in points.items()))]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def make_inputs() -> None:
    """What both sides read, made once: the base, eight random adapters of it, messages, rows to curate."""
    ready = WORK / "inputs"
    if ready.is_dir():
        return
    data = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data")) / "banking77"
    made = WORK / "inputs.part"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    from tailorbird.base_models import pull
    from tailorbird.inference import open_model_reader

    (made / "base").symlink_to(pull("smollm2-135m", ROOT / ".cache" / "models", open_model_reader).resolve())
    _write_adapters(made / "base", made / "adapters")
    with (data / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with (made / "messages.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows[:1] + sorted(rows[1:], key=lambda row: math.sin(len(row[0]) * 7919 + sum(map(ord, row[0])))))
    with (made / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *made_rows(ROWS, 3)])
    made.replace(ready)


def _write_adapters(base: Path, folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for number in range(ADAPTERS):
        torch.manual_seed(number)
        config = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder / str(number))


def measured(family: str, then: Path, pairs: int, undisturbed: float) -> dict[str, Any]:
    """One family, in so many pairs during which others took no more than that share of the cores."""
    bar, warm = FAMILIES[family]
    with tempfile.TemporaryDirectory(prefix="pairs-", dir=WORK) as name:
        sides: list[Side] = []
        try:
            for place, root in (("now", ROOT), ("then", then)):
                sides.append(Side(family, root, root / WORKER, Path(name) / place))
                for _ in range(warm):
                    sides[-1].round()
            found = _paired(sides, pairs, undisturbed)
        finally:
            for side in sides:
                side.end()
    return found | {"bar": bar, "holds": found["low"] >= bar}


def _paired(sides: Sequence[Side], pairs: int, undisturbed: float) -> dict[str, Any]:
    """This checkout over the other, pair by pair; which side goes first changes from pair to pair."""
    logs: list[float] = []
    memory = [0.0, 0.0]
    disturbed, started = 0, time.monotonic()
    while len(logs) < pairs and len(logs) + disturbed < MOST * pairs:
        watch = Others(_processes([os.getpid(), *(side.pid for side in sides)]))
        watch.begin()
        rates = [0.0, 0.0]
        for place in (0, 1) if (len(logs) + disturbed) % 2 == 0 else (1, 0):
            done = sides[place].round()
            rates[place], memory[place] = done["rate"], max(memory[place], done.get("memory_gib", 0.0))
        quiet = watch.share() <= undisturbed
        if quiet:
            logs.append(math.log(rates[0] / rates[1]))
        disturbed += not quiet
        state = "" if quiet else ", disturbed"
        say(f"  pair {len(logs):2}: {rates[0]:9.1f} now, {rates[1]:9.1f} then, {rates[0] / rates[1]:.3f}{state}")
    if len(logs) < 2:
        raise SystemExit("the machine is busy: fewer than two pairs were undisturbed")
    half = _t(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    low, mean, high = (round(math.exp(fmean(logs) + side), 4) for side in (-half, 0.0, half))
    found = {"value": mean, "low": low, "high": high, "unit": "ratio", "pairs": len(logs), "left_out": disturbed}
    if memory[1]:
        found["memory"] = round(memory[0] / memory[1], 3)
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _processes(parents: Sequence[int]) -> list[int]:
    """Processes with all that they started."""
    found, waiting = set(parents), list(parents)
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
            more = set(map(int, (task / "children").read_text(encoding="ascii").split())) - found
            found |= more
            waiting += more
    return sorted(found)


def _t(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


if __name__ == "__main__":
    main()
