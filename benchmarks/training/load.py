"""Beside other work: processes that each want a core, and what a side makes meanwhile.

In: a side, numbers of busy processes. Out: tokens a second of the side beside each number of them.
Must not know: which side is whose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sides import WARM_UP, Others, Worker, say
from workload import Spec

HERE = Path(__file__).resolve().parent
#: Steps that are not counted after the load has changed: the scheduler moves threads.
SETTLING = 1
#: A step counts as undisturbed where processes that are none of ours took no more than this share of the cores; so many times as many steps
#: as are wanted are taken at most.
UNDISTURBED, TRIES = 0.03, 4


def loads() -> dict[str, int]:
    """Busy processes by what the bars call them."""
    cores = len(os.sched_getaffinity(0))
    return {"alone": 0, "one_process": 1, "one_a_core": cores, "two_a_core": 2 * cores}


@contextmanager
def busy(count: int) -> Iterator[list[int]]:
    """``count`` processes that want a core each, all the time; their numbers."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def beside(spec: Spec, names: Sequence[str], steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Tokens a second of ``spec`` beside each of the loads ``names``, all tokens over all seconds of ``steps`` steps; and the share of the
    cores that processes which are none of ours took meanwhile. Of ``TRIES`` times as many steps, those with the least of it count."""
    worker = Worker(spec.but(steps=WARM_UP + len(names) * (SETTLING + TRIES * steps)))
    worker.prepare()
    for _ in range(WARM_UP):
        worker.step()
    rates, others = {}, {}
    for name in names:
        with busy(loads()[name]) as pids:
            watch = Others([worker.pid, os.getpid(), *pids])
            taken: list[tuple[float, dict[str, float]]] = []
            for _ in range(SETTLING):
                worker.step()
            while len(taken) < TRIES * steps and sum(share <= UNDISTURBED for share, _ in taken) < steps:
                watch.begin()
                step = worker.step()
                taken.append((watch.share(), step))
        least = sorted(taken, key=lambda one: one[0])[:steps]
        rates[name] = round(sum(step["tokens"] for _, step in least) / sum(step["seconds"] for _, step in least), 1)
        others[name] = round(max(share for share, _ in least), 3)
        say(f"  {name:12} {spec.name:32} {rates[name]:7.0f} tokens/s; others took {others[name]:.0%} of the cores")
    worker.stop()
    return rates, others


def engine(base: str, threads: int, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Our engine in a process of its own, which answers a round of requests for each line that it is sent; ``more`` are variables that it is
    given besides."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)} | {"GOMP_SPINCOUNT": "1000"} | dict(more or {})
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
