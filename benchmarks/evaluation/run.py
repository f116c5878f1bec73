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
from scoring import PEER, label_scoring
from simulation import (
    CLIMBS,
    CONFIDENCES,
    LADDERS,
    LAYOUTS,
    LOOKS,
    SIZES,
    SPREADS,
    TARGETS,
    Kind,
    Layout,
    Pools,
    Stories,
    World,
    alike,
    check_formulas,
    coverage,
    false_passes,
    listed,
    power,
    truths,
)

from tailorbird.stats.power import RUNGS

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
    "false_pass_worst_scores": (0.055, None, "share", True),
    "false_pass_dev_fitted_scores": (0.055, None, "share", True),
    "false_pass_every_rung": (0.055, None, "share", True),
    "power_every_rung": (0.80, None, "share", False),
    "false_pass_listed": (0.055, None, "share", True),
    "power_listed": (0.80, None, "share", False),
    "false_pass_other_tiers": (1.1, None, "nominal errors", True),
    "power_worst_at_stated_rate_scores": (0.80, None, "share", False),
    "power_worst_other_tiers": (0.80, None, "share", False),
    "label_scoring_vs_lm_eval": (8.0, 15.0, "ratio", False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under ten minutes: fewer simulations a setting")
    parser.add_argument(
        "--only", default="", help="simulation, every_rung or scoring, separated by commas; other results are kept as they are"
    )
    options = parser.parse_args()
    parts = [part for part in options.only.split(",") if part] or ["simulation", "every_rung", "scoring"]
    started = time.monotonic()
    values: dict[str, float] = {}
    detail: dict[str, Any] = {}
    for part in parts:
        say(f"{part} (after {time.monotonic() - started:.0f} s)")
        {"simulation": simulated, "every_rung": every_rung, "scoring": scored}[part](options.quick, values, detail)
    write(values, detail, options, time.monotonic() - started)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def simulated(quick: bool, values: dict[str, float], detail: dict[str, Any]) -> None:
    """Every setting whose target its test set could prove: false passes, and power by length of the ladder and by where its rungs stand."""
    simulations = 2_000 if quick else 10_000
    random = np.random.default_rng(20)
    detail["formulas_differ_by"] = check_formulas(random)
    settings: list[dict[str, Any]] = []
    for kind, spread in KINDS:
        for confidence in CONFIDENCES:
            worlds = [World(n, target, kind, confidence, spread) for n in SIZES for target in TARGETS]
            # What the plan states of large splits in groups is drawn, not computed, and takes its time.
            sparse = quick or (kind == "clusters" and confidence != LIMITED)
            settings += [setting(world, simulations, random) for world in (worlds[::3] if sparse else worlds) if world.provable()]
            say(f"  {kind} at {confidence:.0%}: done")
    values |= worst(settings)
    detail["simulation"] = {
        "simulations": simulations,
        "false_pass_simulations": FALSE_TIMES * simulations,
        "ladders": LADDERS,
        "climbs_in_vain": CLIMBS,
        "looks_where_dev_was_fitted": LOOKS,
        "settings": settings,
        "rungs_alike": {str(rungs): alike(150, 0.8, rungs, simulations // 4, random) for rungs in LADDERS},
        "coverage_at_90": {str(n): coverage(n, simulations, random) for n in SIZES},
    }


def every_rung(quick: bool, values: dict[str, float], detail: dict[str, Any]) -> None:
    """The ladder of every rung that there is, at 90 %: climbed from the cheapest, and listed by an objective, so that all are measured."""
    simulations = 2_000 if quick else 10_000
    random, longest = np.random.default_rng(22), max(LADDERS)
    settings: list[dict[str, Any]] = []
    for kind, spread in KINDS:
        worlds = [World(n, target, kind, LIMITED, spread) for n in SIZES for target in TARGETS]
        for world in (one for one in (worlds[::3] if quick else worlds) if one.provable()):
            stated, pools = world.stated(longest), Pools(world, simulations, random)
            found = {
                layout: power(pools, truths(world, layout, longest, stated), world.target, Stories(simulations, random))
                for layout in (LAYOUTS if stated else ())
            }
            told = {"n": world.n, "target": world.target, "kind": kind, "spread": spread, "stated_rate": stated, "power": found}
            settings.append(told | {"false_pass": false_passes(world, FALSE_TIMES * simulations, random, dev_lies=False)})
        say(f"  {kind}, {spread:g}: done")
    ladders = [listed_setting(n, target, 800 if quick else LISTED_STORIES, random) for n, target in LISTED]
    values["false_pass_every_rung"] = max(one["false_pass"] for one in settings)
    values["power_every_rung"] = min(least for one in settings for least in one["power"].values())
    values["false_pass_listed"] = max(one["at_target"]["false_pass"] for one in ladders)
    values["power_listed"] = min(one["at_stated_rate"]["released"] for one in ladders)
    detail["every_rung"] = {"rungs": longest, "simulations": simulations, "settings": settings, "listed": ladders}


#: Items a split and targets for which a ladder is played whose every rung is measured.
LISTED = ((60, 0.8), (100, 0.7), (150, 0.8), (300, 0.9), (600, 0.8))
#: Stories that each is played by: the comparisons in pairs take their time.
LISTED_STORIES = 4_000


def listed_setting(n: int, target: float, stories: int, random: np.random.Generator) -> dict[str, Any]:
    """A ladder that lists every rung: all of them at the target, and the last one at the value that the plan states."""
    stated = World(n, target).stated(max(LADDERS))
    assert stated is not None
    at_stated = listed(n, target, LISTED_STORIES, random, last=stated)
    return {"n": n, "target": target, "at_target": listed(n, target, stories, random), "at_stated_rate": at_stated}


#: What items tell, with the spread of scores; the tier whose bars are told by themselves.
KINDS: tuple[tuple[Kind, float], ...] = (("items", 1.0), ("clusters", 1.0), *(("scores", spread) for spread in SPREADS))
LIMITED = 0.90
#: False passes are rare, and are played so many times as often.
FALSE_TIMES = 4


def worst(settings: list[dict[str, Any]]) -> dict[str, float]:
    """The bars. Of the tiers beside ``limited``, false passes are told as multiples of the tier's nominal error."""
    found: dict[str, float] = {}
    for kind, suffix in (("items", ""), ("clusters", "_clustered"), ("scores", "_scores")):
        limited = [one for one in settings if one["kind"] == kind and one["confidence"] == LIMITED]
        found[f"false_pass_worst{suffix}"] = max(one["false_pass"] for one in limited)
        found[f"false_pass_dev_fitted{suffix}"] = max(one["false_pass_dev_fitted"] for one in limited)
        found[f"power_worst_at_stated_rate{suffix}"] = min(least for one in limited for least in powers(one))
    others = [one for one in settings if one["confidence"] != LIMITED]
    nominal = [max(one["false_pass"], one["false_pass_dev_fitted"]) / ((1 - one["confidence"]) / 2) for one in others]
    found["false_pass_other_tiers"] = max(nominal)
    found["power_worst_other_tiers"] = min(least for one in others for least in powers(one))
    return found


def powers(one: dict[str, Any]) -> list[float]:
    """Power of a setting in every layout, with every length of the ladder; nothing where the plan states no value."""
    return [found for by_layout in (one["power"] or {}).values() for layout, found in by_layout.items() if layout in LAYOUTS]


def setting(world: World, simulations: int, random: np.random.Generator) -> dict[str, Any]:
    """All that is told of one world; ``one_look`` is the power of the rule before docs/design/ladder.md, at the value that the plan
    stated then."""
    stated, before, pools = world.stated(), world.stated_for_one(), Pools(world, simulations, random)

    def played(last: float, rungs: int, layout: Layout, *, goes_on: bool) -> float:
        return power(pools, truths(world, layout, rungs, last), world.target, Stories(simulations, random), goes_on=goes_on)

    shown: tuple[Layout, ...] = (*LAYOUTS, "between")
    lasts = {rungs: stated if rungs <= RUNGS else world.stated(rungs) for rungs in LADDERS}
    found = {str(r): {name: played(last, r, name, goes_on=True) for name in shown} for r, last in lasts.items() if last} or None
    former = {str(r): {name: played(before, r, name, goes_on=False) for name in shown} for r in LADDERS} if before else None
    return {
        "n": world.n,
        "target": world.target,
        "kind": world.kind,
        "spread": world.spread,
        "confidence": world.confidence,
        "false_pass": false_passes(world, FALSE_TIMES * simulations, random, dev_lies=False),
        "false_pass_dev_fitted": false_passes(world, FALSE_TIMES * simulations, random, dev_lies=True),
        "stated_rate": round(stated, 4) if stated else None,
        "power": found,
        "stated_rate_for_one_look": round(before, 4) if before else None,
        "one_look": former,
    }


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
