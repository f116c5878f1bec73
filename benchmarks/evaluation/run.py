"""The evaluation benchmark: does the rule keep its promise, and how fast are labels scored.

In: ``--quick`` or nothing. Out: benchmarks/results/evaluation.json, progress on stderr, one JSON object as the last line of stdout. The
statistics are simulated; label scoring runs beside lm-evaluation-harness on the same model, messages and labels, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from public_rows import public_rows
from scoring import PEER, label_scoring
from simulation import CLUSTER, LOOKS, RUNGS, SIZES, TARGETS, World, check_formulas, coverage, false_passes, power

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "evaluation.json"

#: name: (bar, aim, unit, whether less is better)
BARS: dict[str, tuple[float, float | None, str, bool]] = {
    "false_pass_worst": (0.055, None, "share", True),
    "false_pass_worst_clustered": (0.055, None, "share", True),
    "false_pass_dev_fitted": (0.055, None, "share", True),
    "false_pass_dev_fitted_clustered": (0.055, None, "share", True),
    "power_worst_at_stated_rate": (0.80, None, "share", False),
    "power_worst_at_stated_rate_clustered": (0.80, None, "share", False),
    "public_rows_not_proven": (2, None, "of 2", False),
    "label_scoring_vs_lm_eval": (8.0, 15.0, "ratio", False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under ten minutes: fewer simulations a setting")
    parser.add_argument("--only", default="", help="simulation, rows or scoring, separated by commas; other results are kept as they are")
    options = parser.parse_args()
    parts = [part for part in options.only.split(",") if part] or ["simulation", "rows", "scoring"]
    started = time.monotonic()
    values: dict[str, float] = {}
    detail: dict[str, Any] = {}
    for part in parts:
        say(f"{part} (after {time.monotonic() - started:.0f} s)")
        {"simulation": simulated, "rows": rows, "scoring": scored}[part](options.quick, values, detail)
    write(values, detail, options, time.monotonic() - started)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def simulated(quick: bool, values: dict[str, float], detail: dict[str, Any]) -> None:
    """Every setting whose target its test set could prove."""
    simulations = 2_000 if quick else 10_000
    random = np.random.default_rng(20)
    detail["formulas_differ_by"] = check_formulas(random)
    settings: list[dict[str, Any]] = []
    for clustered in (False, True):
        for n in SIZES:
            for target in TARGETS:
                world = World(n, target, clustered)
                if world.provable():
                    settings.append(setting(world, simulations, random))
        say(f"  {'clusters of ' + str(CLUSTER) if clustered else 'single items'}: done")
    for name, clustered in (("false_pass_worst", False), ("false_pass_worst_clustered", True)):
        values[name] = max(one["false_pass"] for one in settings if one["clustered"] is clustered)
        fitted = name.replace("worst", "dev_fitted")
        values[fitted] = max(one["false_pass_dev_fitted"] for one in settings if one["clustered"] is clustered)
    for name, clustered in (("power_worst_at_stated_rate", False), ("power_worst_at_stated_rate_clustered", True)):
        values[name] = min(one["power"] for one in settings if one["power"] is not None and one["clustered"] is clustered)
    detail["simulation"] = {
        "simulations": simulations,
        "rungs": RUNGS,
        "looks": LOOKS,
        "settings": settings,
        "coverage_at_90": {str(n): coverage(n, simulations, random) for n in SIZES},
    }


def setting(world: World, simulations: int, random: np.random.Generator) -> dict[str, Any]:
    stated = power(world, simulations, random)
    return {
        "n": world.n,
        "target": world.target,
        "clustered": world.clustered,
        "false_pass": false_passes(world, simulations, random, dev_lies=False),
        "false_pass_dev_fitted": false_passes(world, simulations, random, dev_lies=True),
        "stated_rate": round(stated[0], 4) if stated else None,
        "power": stated[1] if stated else None,
    }


def rows(_quick: bool, values: dict[str, float], detail: dict[str, Any]) -> None:
    detail["public_rows"] = public_rows()
    asked = [row for row in detail["public_rows"] if row["asked"]]
    values["public_rows_not_proven"] = sum(row["standing"] == "not_proven" and row["items_needed"] is not None for row in asked)


def scored(_quick: bool, values: dict[str, float], detail: dict[str, Any]) -> None:
    found = label_scoring(8, say)
    values["label_scoring_vs_lm_eval"] = found["ratio"]
    detail["label_scoring"] = found


def bar(name: str, values: dict[str, float]) -> dict[str, Any]:
    limit, aim, unit, less = BARS[name]
    value = values.get(name)
    holds = None if value is None else (value <= limit if less else value >= limit)
    return {
        "value": None if value is None else float(f"{value:.4g}"),
        "bar": limit,
        "aim": aim,
        "unit": unit,
        "holds": holds,
        "in": "full" if value is None else "quick",
    }


def write(values: dict[str, float], detail: dict[str, Any], options: argparse.Namespace, seconds: float) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    result = {
        "benchmark": "evaluation",
        "machine": {"cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[1], 1)},
        "commit": commit.stdout.strip(),
        "bars": {name: bar(name, values) for name in BARS},
    }
    stamp = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": "quick" if options.quick else "full",
        "seconds": round(seconds),
    }
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if options.only and RESULTS.exists() else {}
    known = kept.get("bars", {})
    merged = {name: one if one["value"] is not None else known.get(name, one) for name, one in result["bars"].items()}
    RESULTS.parent.mkdir(exist_ok=True)
    whole = kept | result | {"bars": merged} | stamp | {"peer": PEER} | detail
    RESULTS.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result | {"bars": merged}))


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
