"""Measures the data room: ``python benchmarks/data/run.py [--quick] [--only FAMILY]``.

Every file ``<family>_bar.py`` beside this one is a program that measures a family of bars: it may be given ``--quick``, tells its progress
on stderr, and prints its bars (JSON, by name) as the last line of stdout. The last line of stdout here is all of them with machine and
commit; it is also written to ``benchmarks/results/data.json``, unless only some families were measured. Exit status 1: a bar does not
hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from machine import commit, machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULT = ROOT / "benchmarks" / "results" / "data.json"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the data room.")
    parser.add_argument("--quick", action="store_true", help="under ten minutes; what only the full run can tell is left open")
    parser.add_argument("--only", action="append", metavar="NAME", help="a family: " + ", ".join(families()))
    given = parser.parse_args()
    start, measured = time.perf_counter(), {}
    for family in given.only or families():
        measured |= bars_of(family, given.quick)
    result = {
        "benchmark": "data",
        "mode": "quick" if given.quick else "full",
        "seconds": round(time.perf_counter() - start),
        "machine": machine(),
        "commit": commit(),
        "bars": measured,
    }
    if not given.only:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 1 if any(bar["holds"] is False for bar in measured.values()) else 0


def families() -> list[str]:
    return sorted(path.stem.removesuffix("_bar") for path in HERE.glob("*_bar.py"))


def bars_of(family: str, quick: bool) -> dict[str, dict[str, object]]:
    """What a family's program measured. Ends everything when the program fails."""
    print(f"— {family}", file=sys.stderr, flush=True)
    command = [sys.executable, str(HERE / f"{family}_bar.py"), *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return {name: {"in": "quick"} | bar for name, bar in found.items()}


if __name__ == "__main__":
    sys.exit(main())
