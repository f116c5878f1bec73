"""What the limits cost: this checkout against another one without them, in interleaved pairs.

In: ``--against CHECKOUT`` (a worktree of an earlier commit), ``--quick`` (fewer pairs, no training), ``--only WORKLOAD``. Out:
benchmarks/results/limits.json (not with ``--quick``; with ``--only`` the other workloads keep theirs), progress on stderr, one JSON object
as the last line of stdout. Each bar names the commits that it was measured on.

``confinement`` is this checkout alone: files parsed in a process of limits, against the same without it; ``curation`` counts all that has
come since the other commit. Each pair runs both sides one after the other, in turn the one or the other first, each in a process of its own;
what counts is the ratio within a pair. A bar holds where the median ratio is at most 1.05; the interval is that of the median (a sign test, 95 %).
Run it on a machine that does nothing else:

    git worktree add /tmp/before COMMIT
    .venv/bin/python benchmarks/limits/run.py --against /tmp/before
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from machine import commit, machine  # noqa: E402 - found beside this folder

RESULTS = ROOT / "benchmarks" / "results" / "limits.json"
BAR, AIM = 1.05, 1.02
#: Pairs of each workload, and of a quick run.
PAIRS = {"request": (21, 5), "curation": (11, 3), "confinement": (21, 3), "training": (7, 0)}
#: Workloads of this checkout alone: without the limit, and with it.
WITHOUT_AND_WITH = {"confinement": ("unconfined", "confined")}
#: Folders below ``tests`` in which the support modules lie: today, and in commits before there was one package of them.
SUPPORT, KITS = "support", ("", "api", "ledger", "lifecycle", "app")


def main() -> None:
    """Measures, writes and prints."""
    asked = _arguments()
    bars, detail = {}, {}
    measured = {
        "commit": commit(),
        "against": _commit_of(Path(asked.against)),
        "machine": machine(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    for name, (many, few) in PAIRS.items():
        pairs = few if asked.quick else many
        if asked.only in (None, name) and pairs:
            bar, detail[name] = _compare(name, Path(asked.against).resolve(), pairs, quick=asked.quick)
            bars[f"{name}_cost"] = bar | measured
    told = {"benchmark": "limits", "bars": bars}
    if not asked.quick:
        before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"bars": {}, "pairs": {}}
        kept = told | {"bars": before["bars"] | bars, "pairs": before["pairs"] | detail}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PAIRS)
    return parser.parse_args()


def _compare(name: str, before: Path, pairs: int, *, quick: bool) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    without, with_ = WITHOUT_AND_WITH.get(name, (name, name))
    sides = ((ROOT if name in WITHOUT_AND_WITH else before, without), (ROOT, with_))
    for side in sides:
        _probe(*side)  # compiles, and fills the caches of the disk
    found = []
    for number in range(pairs):
        taken = {side: _probe(*side) for side in (sides if number % 2 else reversed(sides))}
        found.append((taken[sides[0]], taken[sides[1]]))
        print(f"[limits] {name} {number + 1}/{pairs}: {found[-1][0]:.5f} s, {found[-1][1]:.5f} s", file=sys.stderr, flush=True)
    ratios = sorted(after / earlier for earlier, after in found)
    value, (low, high) = median(ratios), _interval(ratios)
    bar = {"value": round(value, 4), "interval": [round(low, 4), round(high, 4)], "bar": BAR, "aim": AIM, "unit": "ratio"}
    return bar | {"less_is_better": True, "holds": value <= BAR, "in": "quick" if quick else "full"}, found


def _probe(checkout: Path, name: str) -> float:
    """Seconds that the workload takes with the code of ``checkout``."""
    tests = checkout / "tests"
    paths = [checkout / "src", *([tests] if (tests / SUPPORT).is_dir() else (tests / kit for kit in KITS))]
    models = os.environ.get("TAILORBIRD_MODELS", str(ROOT / ".cache" / "models"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1", "TAILORBIRD_MODELS": models}
    done = subprocess.run(
        [sys.executable, str(HERE / "probe.py"), name], env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _interval(ordered: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median of sorted values: from the order statistics that the binomial distribution gives."""
    n, tail, k = len(ordered), 0.0, 0
    while k < n // 2 and tail + comb(n, k) / 2**n <= 0.025:
        tail += comb(n, k) / 2**n
        k += 1
    k = max(0, k - 1)
    return ordered[k], ordered[n - 1 - k]


def _commit_of(checkout: Path) -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
