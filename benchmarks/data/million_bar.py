"""A million short rows, from the file to the snapshot: time and memory.

Read, exact and near duplicates, overlaps, checksum and pattern detectors, quality rules, split, snapshot. The process is measured as a
whole (``getrusage``), in a process of its own. The quick run takes a twentieth of the rows and proves nothing of the bars.
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
from typing import Any

from objectives import Folder, objective_of
from rows import ROOT, made_rows

from tailorbird.data import SnapshotRequest, build_snapshot

ROWS = 1_000_000
SEED = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, help="other than a million: to see how it grows")
    parser.add_argument("--worker", metavar="FOLDER")
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(worked(Path(given.worker))))
        return
    count = given.rows or (ROWS // 20 if given.quick else ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "artifacts").mkdir()
        (folder / "rows.csv").symlink_to(made_file(count).resolve())
        full = run(folder)
    print(json.dumps(bars(full, count, quick=count != ROWS)))


def made_file(count: int) -> Path:
    """A file of ``count`` rows, made once: that takes longer than to curate them."""
    place = ROOT / ".cache" / f"rows-{count}-{SEED}.csv"
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        part = place.with_suffix(".part")
        write(part, made_rows(count, SEED))
        part.replace(place)
    return place


def run(folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found, file=sys.stderr)
    return found


def worked(folder: Path) -> dict[str, Any]:
    start, cpu = time.perf_counter(), time.process_time()

    def told(text: str) -> None:
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(f"[{time.perf_counter() - start:6.1f} s, {gib:.2f} GiB] {text}", file=sys.stderr, flush=True)

    built = build_snapshot(SnapshotRequest(objective_of([{"path": "rows.csv"}]), folder, Folder(folder / "artifacts"), {}, told))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    told("done")
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"seconds": seconds, "cpu": cpu, "gib": gib, "rows": len(built.rows), "groups": built.manifest.near_duplicate_groups}


def bars(full: dict[str, Any], count: int, *, quick: bool) -> dict[str, object]:
    """A run over fewer rows proves nothing of the bars."""
    common = {"rows": count} | ({"in": "full"} if quick else {})

    def bar(value: float, most: float, unit: str) -> dict[str, object]:
        return {"value": value, "bar": most, "unit": unit, "holds": None if quick else value <= most} | common

    return {
        "million_rows_seconds": bar(round(full["seconds"], 1), 300, "seconds") | {"cpu_seconds": round(full["cpu"], 1)},
        "million_rows_memory": bar(round(full["gib"], 2), 2.0, "GiB"),
    }


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
