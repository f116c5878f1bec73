"""Beside other work: processes that each want a core, and what a side makes meanwhile.

In: sides, numbers of busy processes. Out: tokens a second of each side beside each number of them; ratios of pairs with their intervals.
Must not know: which side is whose.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from sides import Worker, say
from workload import Spec

HERE = Path(__file__).resolve().parent
#: Steps that are not counted after the load has changed: the scheduler moves threads.
SETTLING = 1
#: Student's t, two-sided 95 %, by degrees of freedom.
_T95 = {14: 2.145, 15: 2.131, 19: 2.093, 24: 2.064, 29: 2.045}


def loads() -> dict[str, int]:
    """Busy processes by what the bars call them."""
    cores = len(os.sched_getaffinity(0))
    return {"alone": 0, "one_process": 1, "one_a_core": cores, "two_a_core": 2 * cores}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """``count`` processes that want a core each, all the time."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def beside(specs: Sequence[Spec], steps: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Steps of each of ``specs``, by its name and the load: all take their steps in turn beside the same processes."""
    total = 3 + len(loads()) * (SETTLING + steps)
    workers = [Worker(spec.but(steps=total)) for spec in specs]
    for worker in workers:
        worker.prepare()
        for _ in range(3):
            worker.step()
    found: dict[str, dict[str, list[dict[str, float]]]] = {worker.measured.spec.name: {} for worker in workers}
    for load, count in loads().items():
        with busy(count):
            for worker in workers:
                taken = [worker.step() for _ in range(SETTLING + steps)][SETTLING:]
                found[worker.measured.spec.name][load] = taken
                rate = median(step["tokens"] / step["seconds"] for step in taken)
                say(f"  {load:12} {worker.measured.spec.name:32} {rate:7.0f} tokens/s")
    for worker in workers:
        worker.end()
    return found


def rates(taken: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Tokens a second beside each load: all tokens over all seconds."""
    return {load: round(sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps), 1) for load, steps in taken.items()}


def engine(base: str, threads: int, spins: str = "") -> subprocess.Popen[str]:
    """Our engine in a process of its own, which answers a round of requests for each line that it is sent."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)} | ({"GOMP_SPINCOUNT": spins} if spins else {})
    return subprocess.Popen(
        [sys.executable, str(HERE / "load_engine.py"), base], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )


def round_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """One round: tokens a second, and the latencies of its requests."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def end(process: subprocess.Popen[str]) -> None:
    """Lets an engine go."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(60)


def interval(ratios: Sequence[float]) -> dict[str, float]:
    """The mean of ``ratios`` with its 95 % interval, by the t distribution of their logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    half = _T95.get(len(logs) - 1, 2.0) * stdev(logs) / math.sqrt(len(logs))
    return {
        "low": round(math.exp(fmean(logs) - half), 4),
        "mean": round(math.exp(fmean(logs)), 4),
        "high": round(math.exp(fmean(logs) + half), 4),
        "pairs": len(logs),
    }
