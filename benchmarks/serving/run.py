"""The serving benchmark, a family of measurements at a time; results are merged by family, so that one can be measured again alone.

In: ``--quick`` or nothing, ``--only FAMILY`` (several times). Out: benchmarks/results/serving.json, progress on stderr, one JSON object
as the last line of stdout. A family is a module of this folder named ``family_<name>.py`` with ``BARS`` (name: (bar, aim, unit, whether
less is better)) and ``measure(quick) -> Measured``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "serving.json"

Bar = tuple[float, float, str, bool]


class Measured(NamedTuple):
    """What a family found: a value for each bar, and whatever a reader wants to see beside it."""

    values: Mapping[str, float]
    detail: Mapping[str, Any]


def families() -> list[str]:
    """All families, by name."""
    return sorted(path.stem.removeprefix("family_") for path in HERE.glob("family_*.py"))


def say(text: str) -> None:
    """A line of progress."""
    print(f"[serving] {text}", file=sys.stderr, flush=True)


def holds(value: float, bar: Bar) -> bool:
    """True when ``value`` reaches the bar."""
    return value <= bar[0] if bar[3] else value >= bar[0]


def judged(bars: Mapping[str, Bar], measured: Measured, quick: bool) -> dict[str, Any]:
    """The bars of a family in the one form; what was not measured is null."""
    told = {}
    for name, bar in bars.items():
        value = measured.values.get(name)
        found: dict[str, Any] = {"value": value, "bar": bar[0], "aim": bar[1], "unit": bar[2], "less_is_better": bar[3]}
        found |= {"holds": None if value is None else holds(value, bar), "in": "quick" if quick and value is not None else "full"}
        told[name] = found
    return told


def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    cores = len(os.sched_getaffinity(0))
    return {"cpu": model, "cores": cores, "python": platform.python_version(), "system": platform.system()}


def commit() -> str:
    """The commit that was measured; marked where the tree differs from it."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return head + ("+changes" if changed.strip() else "")


def merge(found: Mapping[str, Any]) -> dict[str, Any]:
    """The results file with the families of ``found`` in place of what it said of them."""
    before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    every = dict(sorted((before.get("families", {}) | dict(found)).items()))
    whole = {"benchmark": "serving", "families": every}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return whole


def main() -> int:
    """Measures, merges, tells."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--quick", action="store_true")
    asked.add_argument("--only", action="append", choices=families(), default=[])
    options = asked.parse_args()
    sys.path[:0] = [str(HERE), str(ROOT / "tests")]
    found = {}
    for name in options.only or families():
        say(name)
        started, family = time.monotonic(), import_module(f"family_{name}")
        measured: Measured = family.measure(options.quick)
        found[name] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "seconds": round(time.monotonic() - started, 1),
            "bars": judged(family.BARS, measured, options.quick),
            "detail": measured.detail,
        }
        merge(found)
    bars = {name: bar for family in found.values() for name, bar in family["bars"].items()}
    print(json.dumps({"benchmark": "serving", "machine": machine(), "commit": commit(), "bars": bars}, ensure_ascii=False))
    return 0 if all(bar["holds"] is not False for bar in bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
