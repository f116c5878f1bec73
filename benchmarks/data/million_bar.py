"""A million short rows, from the file to the snapshot: time and memory; and the same after 1 % more rows.

Read, exact and near duplicates, overlaps, checksum and pattern detectors, quality rules, split, snapshot. The process is measured as a whole
(``getrusage``), in a process of its own; the quick run takes a twentieth of the rows and proves nothing of the bars.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from objectives import Folder, objective_of
from rows import made_rows

from tailorbird.data import SnapshotRequest, build_snapshot

ROWS, MORE = 1_000_000, 10_000
SEED = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "MODE"))
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(worked(Path(given.worker[0]))))
        return
    count = ROWS // 20 if given.quick else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "artifacts").mkdir()
        write(folder / "rows.csv", made_rows(count, SEED), "w")
        full = run(folder, "full")
    print(json.dumps(bars(full, count, quick=given.quick)))


def run(folder: Path, mode: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", str(folder), mode]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(mode, found, file=sys.stderr)
    return found


def worked(folder: Path) -> dict[str, float]:
    start = time.perf_counter()

    def told(text: str) -> None:
        print(f"[{time.perf_counter() - start:6.1f}] {text}", file=sys.stderr, flush=True)

    request = SnapshotRequest(objective_of([{"path": "rows.csv"}]), folder, Folder(folder / "artifacts"), {}, told)
    built = build_snapshot(request)
    seconds = time.perf_counter() - start
    cpu = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"seconds": seconds, "cpu": cpu, "gib": memory, "rows": len(built.rows), "groups": built.manifest.near_duplicate_groups}


def bars(full: dict[str, float], count: int, *, quick: bool) -> dict[str, object]:
    held = {"in": "full"} if quick else {}
    return {
        "million_rows_seconds": {
            "value": round(full["seconds"], 1),
            "bar": 300,
            "unit": "seconds",
            "rows": count,
            "holds": None if quick else full["seconds"] <= 300,
            "cpu_seconds": round(full["cpu"], 1),
        }
        | held,
        "million_rows_memory": {
            "value": round(full["gib"], 2),
            "bar": 2.0,
            "unit": "GiB",
            "rows": count,
            "holds": None if quick else full["gib"] <= 2.0,
        }
        | held,
    }


def write(path: Path, rows: list[tuple[str, str]], mode: str) -> None:
    with path.open(mode, encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if mode == "w":
            writer.writerow(("text", "label"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
