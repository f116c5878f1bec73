"""Beside other work: processes that each want a core, and what a side makes meanwhile.

In: a side, numbers of busy processes. Out: tokens a second of the side beside each number of them; ratios of pairs with their intervals.
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
from statistics import fmean, stdev
from typing import Any

from sides import WARM_UP, Worker, say
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


def beside(spec: Spec, names: Sequence[str], steps: int) -> dict[str, float]:
    """Tokens a second of ``spec`` beside each of the loads ``names``: all tokens of ``steps`` steps over all their seconds."""
    worker = Worker(spec.but(steps=WARM_UP + len(names) * (SETTLING + steps)))
    worker.prepare()
    for _ in range(WARM_UP):
        worker.step()
    found = {}
    for name in names:
        with busy(loads()[name]):
            taken = [worker.step() for _ in range(SETTLING + steps)][SETTLING:]
        found[name] = round(sum(step["tokens"] for step in taken) / sum(step["seconds"] for step in taken), 1)
        say(f"  {name:12} {spec.name:32} {found[name]:7.0f} tokens/s")
    worker.end()
    return found


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
