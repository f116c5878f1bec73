"""A million short rows, from the file to the snapshot: time and memory; and the same after 1 % more rows.

Read, exact and near duplicates, overlaps, checksum and pattern detectors, quality rules, split, snapshot. The process is measured as a whole
(``getrusage``), in a process of its own. The append is done three times from the same state, and the middle one counts: it takes seconds,
and what the system still writes of the whole falls on the first. The quick run takes a twentieth of the rows and proves nothing of the bars.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

from objectives import Folder, objective_of
from rows import ROOT, made_rows

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data import SnapshotRequest, build_snapshot

ROWS = 1_000_000
SEED = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, help="other than a million: to see how it grows")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "MODE"))
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(worked(Path(given.worker[0]), given.worker[1])))
        return
    count = given.rows or (ROWS // 20 if given.quick else ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), made_file(count)
        for store in ("artifacts", "artifacts-again"):
            (folder / store).mkdir()
        lines = rows.read_bytes().splitlines(keepends=True)
        (folder / "rows.csv").write_bytes(b"".join(lines[: count + 1]))
        full = run(folder, "full")
        (folder / "rows.csv").write_bytes(b"".join(lines))
        appends = [run(copied(folder, folder / other), "append") for other in ("1", "2", "3")]
        again = run(folder, "again")
    assert {append["manifest"] for append in appends} == {again["manifest"]}, "an append gave another snapshot than a build from all rows"
    print(json.dumps(bars(full, sorted(appends, key=itemgetter("seconds")), count, quick=count != ROWS)))


def copied(folder: Path, to: Path) -> Path:
    """The same files in another folder: links, since nothing is ever written into one that is there."""
    for part in ("artifacts", "kept"):
        shutil.copytree(folder / part, to / part, copy_function=os.link)
    for name in ("rows.csv", "splits.json"):
        os.link(folder / name, to / name)
    return to


def made_file(count: int) -> Path:
    """A file of ``count`` rows and one in a hundred more, made once: that takes longer than to curate them."""
    place = ROOT / ".cache" / f"rows-{count}-{SEED}.csv"
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        part = place.with_suffix(".part")
        write(part, made_rows(count + count // 100, SEED))
        part.replace(place)
    return place


def run(folder: Path, mode: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", str(folder), mode]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(mode, found, file=sys.stderr)
    return found


def worked(folder: Path, mode: str) -> dict[str, Any]:
    """``full``: from nothing; ``append``: after rows were appended, with what was kept; ``again``: the same without what was kept.

    Where earlier rows went is read before the clock starts: it lies in the record, whose speed is measured elsewhere.
    """
    splits = folder / "splits.json"
    known = {} if mode == "full" else {row: (split, group) for row, (split, group) in json.loads(splits.read_text()).items()}
    start, cpu = time.perf_counter(), time.process_time()

    def told(text: str) -> None:
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(f"[{time.perf_counter() - start:6.1f} s, {gib:.2f} GiB] {text}", file=sys.stderr, flush=True)

    store = Folder(folder / ("artifacts-again" if mode == "again" else "artifacts"))
    memory = None if mode == "again" else folder / "kept"
    built = build_snapshot(SnapshotRequest(objective_of([{"path": "rows.csv"}]), folder, store, known, told, memory=memory))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    told("done")
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    if mode == "full":
        splits.write_text(json.dumps(built.assigned))
    manifest = digest_of(built.manifest)
    groups = built.manifest.near_duplicate_groups
    return {"seconds": seconds, "cpu": cpu, "gib": gib, "rows": len(built.rows), "groups": groups, "manifest": manifest}


def bars(full: dict[str, Any], appends: list[dict[str, Any]], count: int, *, quick: bool) -> dict[str, object]:
    """``appends`` from the fastest to the slowest. A run over fewer rows proves nothing of the bars."""
    append = appends[len(appends) // 2]
    common = {"rows": count} | ({"in": "full"} if quick else {})
    share = append["seconds"] / full["seconds"]

    def bar(value: float, most: float, unit: str) -> dict[str, object]:
        return {"value": value, "bar": most, "unit": unit, "holds": None if quick else value <= most} | common

    return {
        "million_rows_seconds": bar(round(full["seconds"], 1), 300, "seconds") | {"cpu_seconds": round(full["cpu"], 1)},
        "million_rows_memory": bar(round(full["gib"], 2), 2.0, "GiB"),
        "one_percent_appended": bar(round(share, 4), 0.05, "share of the full time")
        | {
            "seconds": round(append["seconds"], 1),
            "seconds_of_each": [round(one["seconds"], 1) for one in appends],
            "cpu_seconds": round(append["cpu"], 1),
            "gib": round(max(one["gib"] for one in appends), 2),
            "same_snapshot_as_from_all_rows": True,
        },
    }


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
