"""Families of bars, each measured by a program of its own: ``run.py [--quick] [--only FAMILY]... [--take FILE] [--conditions TEXT]``.

Every file ``<family>_bar.py`` of a benchmark is a program that measures a family of bars: it may be given ``--quick``, tells its progress
on stderr, and prints its bars (JSON, by name) as the last line of stdout. Results are merged by family into ``benchmarks/results``, each
with its date, machine, commit and conditions, so that one can be measured again alone; a quick one is printed and not kept. ``--take FILE``
takes what a family's program printed elsewhere (``{"commit": …, "bars": {…}}``), as for the kill points, which take an hour in several
sittings. A bar's ``in`` is the run that its value is of, ``quick`` or ``full``; where only a full run can tell, a quick one says
``full`` with
``holds`` null. The last line of stdout is all bars that were asked for. Exit status 1: one does not hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import commit, machine

HERE = Path(__file__).resolve().parent

#: A family as it is kept: ``at``, ``commit``, ``machine``, ``seconds``, ``bars``, and ``conditions`` where there is something to say.
Family = dict[str, Any]


def main(benchmark: str, about: str) -> int:
    """Runs ``benchmark``, the folder of that name; ``about`` is told on ``--help``."""
    known = families(benchmark)
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="under ten minutes; what only the full run can tell is left open")
    parser.add_argument("--only", action="append", metavar="NAME", choices=known, help="a family: " + ", ".join(known))
    parser.add_argument("--take", type=Path, metavar="FILE", help="take the only family's bars from FILE; nothing is measured")
    parser.add_argument("--conditions", default="", metavar="TEXT", help="what a reader must know of how it was measured")
    given = parser.parse_args()
    found: dict[str, Family] = {}
    for name in given.only or known:
        found[name] = (taken(given.take) if given.take else measured(benchmark, name, given.quick)) | {"conditions": given.conditions}
        if not given.quick:
            merge(benchmark, found)
    bars = {bar: told for family in found.values() for bar, told in family["bars"].items()}
    mode = "quick" if given.quick else "full"
    print(json.dumps({"benchmark": benchmark, "mode": mode, "machine": machine(), "commit": commit(), "bars": bars}))
    return 1 if any(bar["holds"] is False for bar in bars.values()) else 0


def families(benchmark: str) -> list[str]:
    return sorted(path.stem.removesuffix("_bar") for path in (HERE / benchmark).glob("*_bar.py"))


def measured(benchmark: str, name: str, quick: bool) -> Family:
    """What a family's program measures now. A bar that does not hold is told; a program that fails ends everything."""
    print(f"— {name}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    command = [sys.executable, str(HERE / benchmark / f"{name}_bar.py"), *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{name}: the program ended with {done.returncode} and told nothing")
    bars = json.loads(done.stdout.splitlines()[-1])
    return _family(commit(), bars, "quick" if quick else "full") | {"seconds": round(time.perf_counter() - start)}


def taken(file: Path) -> Family:
    """What a full run of a family's program told before, with the commit that it was measured at."""
    told = json.loads(file.read_text(encoding="utf-8"))
    return _family(told["commit"], told["bars"], "full")


def _family(measured_at: str, bars: dict[str, dict[str, Any]], mode: str) -> Family:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": now, "commit": measured_at, "machine": machine(), "bars": {name: {"in": mode} | bar for name, bar in bars.items()}}


def merge(benchmark: str, found: dict[str, Family]) -> None:
    """Puts families into the results in place of what stood there of them."""
    place = HERE / "results" / f"{benchmark}.json"
    before = json.loads(place.read_text(encoding="utf-8"))["families"] if place.exists() else {}
    place.parent.mkdir(exist_ok=True)
    whole = {"benchmark": benchmark, "families": dict(sorted((before | found).items()))}
    place.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
