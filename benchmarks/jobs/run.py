"""The benchmark of the four jobs of docs/jobs on public data, a family each.

In: ``--quick``, ``--only FAMILY``, ``--conditions TEXT`` (what a reader must know of how it was measured). Out:
benchmarks/results/jobs.json, progress on stderr, one JSON object as the last line of stdout. A family is a module of this folder with
``BARS`` (name: (bar, aim, unit, whether less is better)) and ``run(quick)``, which returns the values of its bars and the detail beside
them. One that was not run keeps its committed values; what a quick run measures is printed and not kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import commit, machine

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "jobs.json"
#: Modules of this folder that are no family.
SHARED = {"run", "climb"}
FAMILIES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED)


def main() -> None:
    parser = argparse.ArgumentParser(description="The four jobs on public data.")
    parser.add_argument("--quick", action="store_true", help="small forms, under ten minutes; nothing is kept")
    parser.add_argument("--only", choices=FAMILIES, action="append", metavar="FAMILY", help="one of: " + ", ".join(FAMILIES))
    parser.add_argument("--conditions", default="", metavar="TEXT")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for name in asked.only or FAMILIES:
        family = importlib.import_module(name)
        started = time.perf_counter()
        values, detail = family.run(asked.quick)
        bars = {bar: _bar(family.BARS[bar], value, asked.quick) for bar, value in values.items()}
        told = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
        found[name] = told | {"seconds": round(time.perf_counter() - started), "conditions": asked.conditions, "bars": bars} | detail
        if not asked.quick:
            _keep(found)
    every = {bar: value for family in found.values() for bar, value in family["bars"].items()}
    print(json.dumps({"benchmark": "jobs", "machine": machine(), "commit": commit(), "bars": every}))


def _keep(found: dict[str, Any]) -> None:
    """Puts families into the results in place of what stood there of them."""
    before: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))["families"] if RESULTS.is_file() else {}
    written = {"benchmark": "jobs", "families": dict(sorted((before | found).items()))}
    RESULTS.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _bar(known: tuple[float, float, str, bool], value: float, quick: bool) -> dict[str, Any]:
    bar, aim, unit, less = known
    holds = value <= bar if less else value > bar
    return {"value": round(value, 4), "bar": bar, "aim": aim, "unit": unit, "holds": holds, "in": "quick" if quick else "full"}


if __name__ == "__main__":
    main()
