"""Curation of generated rows on one core, and on two raylets of one core each: the same snapshot, how much sooner, in how much memory.

In: how many rows. Out: the bar. Rows are those of ``benchmarks/data`` (made from the words of Banking77, with copies and near-copies). One
in a hundred is planted: a copy of a row with letters changed (up to a tenth of them), which stands half of the file away, in another
stretch. Recall is the share of these pairs that have one group in the snapshot.

Each side is ``tailorbird data curate`` in a process of its own, or its step on the cluster, with copies of one workspace; each process
notes its seconds and its peak memory. On one core everything is pinned to one core of this machine; of two raylets each, with what it
starts, to its own. What is compared is the time from the first byte read to the snapshot stored: checks of KPIs and the record follow.
"""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BAR, BAR_RECALL, BAR_GIB = 1.5, 0.95, 4.0
ROWS, QUICK, PLANTED, SEED = 1_000_000, 100_000, 100, 5
MEASURED = "measured.jsonl"
#: One core of this machine, without a cluster; two raylets.
SIDES = ("one", "two")


def compared(rows: int) -> dict[str, Any]:
    """The bar, of one pair of runs."""
    from support.faults import Desk

    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        place = Path(name)
        objective, pairs = _objective(place / "job", rows)
        Desk.new(place / "new", objective)
        sides = {side: _run(place, objective, side) for side in SIDES}
        recall = _recall(place / "two", sides["two"]["snapshot"], pairs)
    one, two = (sides[side] for side in SIDES)
    ratio, gib = one["seconds"] / two["seconds"], max(each["gib"] for side in sides.values() for each in side["processes"])
    same = one["snapshot"] == two["snapshot"]
    holds = same and recall >= BAR_RECALL and gib <= BAR_GIB and ratio >= BAR
    bar = {"value": round(ratio, 3), "bar": BAR, "unit": "ratio", "less_is_better": False, "rows": rows, "holds": holds}
    bar |= {"same_snapshot": same, "recall": round(recall, 4), "pairs_planted": len(pairs), "gib_of_largest_process": gib}
    return bar | {"whole_command": round(one["whole"] / two["whole"], 3), "load": round(os.getloadavg()[0], 1), "sides": sides}


def _objective(folder: Path, count: int) -> tuple[Path, list[tuple[int, int]]]:
    """The objective over so many rows, and the lines of the pairs that were planted."""
    sys.path[:0] = [str(ROOT / "benchmarks" / "data")]
    from rows import made_rows, typos

    folder.mkdir()
    drawn, planted = random.Random(SEED), count // PLANTED
    rows = made_rows(count - planted, SEED)
    half = len(rows) // 2
    origins = drawn.sample(range(half), planted)
    copies = [(typos(rows[origin][0], drawn, 0.1), rows[origin][1]) for origin in origins]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows, *copies])
    content = {
        "name": "curated",
        "tenant": "acme",
        "business": {"goal": "Route messages.", "owner": "support", "risk": "minimal"},
        "task": {"kind": "classify", "instruction": "Classify the message."},
        "data": [{"path": "rows.csv", "source": {"origin": "a benchmark", "license": "CC-BY-4.0"}}],
        "ladder": ["floor"],
        "kpis": [{"metric": "accuracy", "target": 0.5, "because": "nothing is adapted here"}],
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path, [(origin + 2, len(rows) + number + 2) for number, origin in enumerate(origins)]


def _run(place: Path, objective: Path, side: str) -> dict[str, Any]:
    from support.ray_cluster import RayCluster

    workspace, cores = place / side, sorted(os.sched_getaffinity(0))
    shutil.copytree(place / "new", workspace, symlinks=True)
    cluster = RayCluster(workspace)
    cluster.environment |= {"PYTHONPATH": f"{cluster.environment['PYTHONPATH']}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    try:
        for number in (1, 2) if side == "two" else ():
            os.sched_setaffinity(0, {cores[number - 1]})  # what is started from here stays there
            cluster.start(number, 1)
        os.sched_setaffinity(0, {cores[0]})
        command = [sys.executable, __file__, str(workspace), str(objective), cluster.address if side == "two" else ""]
        done = subprocess.run(command, env=os.environ | cluster.environment, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        os.sched_setaffinity(0, cores)
        cluster.clear()
    processes = [json.loads(line) for line in (workspace / MEASURED).read_text().splitlines()]
    (seconds,) = [each["seconds"] for each in processes if each["role"] == "builds"]
    found = json.loads(done.stdout.splitlines()[-1]) | {"seconds": seconds, "processes": processes}
    print(f"[scale] {side}: {found}", file=sys.stderr, flush=True)
    return found


def _recall(workspace: Path, snapshot: str, pairs: list[tuple[int, int]]) -> float:
    from support.faults import Desk, opened
    from tailorbird.domain.dataset import SnapshotManifest

    with opened(Desk(workspace, workspace)) as deps:
        with deps.ledger.work("acme", write=False) as work:
            manifest = work.records.get(SnapshotManifest, snapshot)
        groups = {row["provenance"]["line"]: row["group"] for row in map(json.loads, deps.artifacts.get(manifest.rows).splitlines())}
    there = [(groups[one], groups[other]) for one, other in pairs if one in groups and other in groups]
    return sum(one == other for one, other in there) / len(there)


def timed_step(task: str) -> Any:
    """The step, or help with it; notes how long it took, and the peak of the process."""
    from tailorbird.processes.placed_step import perform_step
    from tailorbird.usecases.runs.step_placement import HelpTask, task_of

    asked = task_of(task)
    return _noted(Path(asked.workspace), "helps" if isinstance(asked, HelpTask) else "", lambda: perform_step(task))


def _noted(workspace: Path, role: str, work: Callable[[], Any]) -> Any:
    from tailorbird import data

    building, took, begun = data.build_snapshot, list[float](), time.perf_counter()

    def timed(request: Any) -> Any:
        started = time.perf_counter()
        built = building(request)
        took.append(time.perf_counter() - started)
        return built

    data.build_snapshot = timed
    try:
        return work()
    finally:
        data.build_snapshot = building
        gib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        seconds = round(took[0] if took else time.perf_counter() - begun, 1)
        if role or took:
            with (workspace / MEASURED).open("a") as file:
                file.write(json.dumps({"role": role or "builds", "seconds": seconds, "gib": gib}) + "\n")


def main(workspace: str, objective: str, address: str) -> None:
    """``tailorbird data curate``, on the cluster at ``address``, or here where there is none."""
    from dataclasses import replace

    from tailorbird import settings, wiring
    from tailorbird.usecases import Progress
    from tailorbird.usecases.identities import act_as
    from tailorbird.usecases.runs.curate import curate

    started, told = time.perf_counter(), list[str]()
    deps = wiring.open_dependencies(settings.load_settings(Path(workspace)))

    def tell(line: str) -> None:
        told.append(line)
        print(f"[scale]   {time.perf_counter() - started:6.1f} s: {line}", file=sys.stderr, flush=True)

    def curated() -> Any:
        return curate(deps, act_as(deps, "acme", "author"), Path(objective), Progress(tell=tell))

    if address:
        from curation_runs import timed_step as by_name

        from tailorbird.integrations.ray import open_ray

        cluster = open_ray(address, by_name)
        deps = replace(deps, compute=lambda: cluster)
        view = curated()
    else:
        view = _noted(Path(workspace), "", curated)
    helped = sum(line.startswith("an idle node") for line in told)
    print(json.dumps({"snapshot": view.digest, "whole": round(time.perf_counter() - started, 1), "helped": helped}))


if __name__ == "__main__":
    main(*sys.argv[1:])
