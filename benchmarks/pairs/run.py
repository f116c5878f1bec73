"""This checkout against an earlier commit: training, serving and ledger in interleaved pairs, so that a change which slows either is seen.

In: ``--against COMMIT`` of this repository, ``--pairs N``, ``--only training,full,serving,ledger``. Out: benchmarks/results/pairs.json, and as the
last line of stdout the same as JSON: for each family the geometric mean of now/then (above 1: faster now) and its 95 % interval (Student's
t over the logarithms of the pairs). The bar: the lower end is at least 0.95. Both sides run side by side, one step or round of one of them
at a time, in turns. Pairs during which processes that are none of the benchmark's took more than 3 % of the cores do not count, and more
are made in their place, up to three times as many in all; how many were left out is told.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "training"), str(ROOT / "benchmarks")]

from load import end, engine, round_of  # noqa: E402
from machine import commit, machine  # noqa: E402
from run import _workloads  # noqa: E402
from sides import WARM_UP, Others, Worker, say  # noqa: E402
from workload import Spec  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "pairs.json"
BAR, UNDISTURBED = 0.95, 0.03
#: So many times as many pairs as are wanted are made at most.
MOST = 3
#: Transactions of 100 events in one go of the ledger.
BATCHES = 40
#: One go of a side: how many tokens a second it made.
Go = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", required=True, help="a commit of this repository")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", default="training,full,serving,ledger")
    options = parser.parse_args()
    then, short = _checkout(options.against), _workloads(len(os.sched_getaffinity(0)))[0]
    result: dict[str, Any] = {"benchmark": "pairs", "machine": machine(), "commit": commit(), "against": options.against, "families": {}}
    for family in options.only.split(","):
        say(family)
        result["families"][family] = FAMILIES[family](then, short, options.pairs)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _checkout(name: str) -> Path:
    """The sources of a commit, in a folder of their own."""
    folder = ROOT / ".cache" / "benchmarks" / f"against-{name}"
    if not folder.is_dir():
        folder.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", name, "src"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def _training(then: Path, short: Spec, pairs: int) -> dict[str, Any]:
    """Steps of a training with the short instruction, rank 16, batches of 16."""
    workers = []
    for name, root in (("now", ROOT), ("then", then)):
        out = str(ROOT / ".cache" / "benchmarks" / f"pairs-{os.getpid()}-{name}")
        workers.append(Worker(short.but(out=out, steps=WARM_UP + MOST * pairs + 1), {"PYTHONPATH": str(root / "src")}))
        workers[-1].prepare()
        for _ in range(WARM_UP):
            workers[-1].step()

    def go(worker: Worker) -> float:
        step = worker.step()
        return step["tokens"] / step["seconds"]

    found = _paired([lambda w=worker: go(w) for worker in workers], [worker.pid for worker in workers], pairs)  # type: ignore[misc]
    for worker in workers:
        worker.stop()
    return found


def _full(then: Path, short: Spec, pairs: int) -> dict[str, Any]:
    """The same of all weights."""
    return _training(then, short.but(method="full"), pairs)


def _serving(then: Path, short: Spec, pairs: int) -> dict[str, Any]:
    """Rounds of eight requests of 24 tokens, four at a time, after two rounds that do not count."""
    with ExitStack() as closing:
        engines = []
        for root in (ROOT, then):
            engines.append(engine(short.base, short.threads, {"PYTHONPATH": str(root / "src")}))
            closing.callback(end, engines[-1])
            for _ in range(2):
                round_of(engines[-1])
        goes = [lambda e=each: float(round_of(e)["tokens_per_second"]) for each in engines]  # type: ignore[misc]
        return _paired(goes, [each.pid for each in engines], pairs)


def _ledger(then: Path, _short: Spec, pairs: int) -> dict[str, Any]:
    """Events appended to the log of a database of each side's own (SQLite), in batches of one transaction each."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        sides = []
        for name, root in (("now", ROOT), ("then", then)):
            command = [sys.executable, str(Path(__file__).with_name("appender.py")), f"sqlite:///{folder}/{name}.db"]
            environment = os.environ | {"PYTHONPATH": str(root / "src")}
            sides.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1))
            closing.callback(sides[-1].communicate)
            _line(sides[-1])

        def go(side: subprocess.Popen[str], batches: int = BATCHES) -> float:
            print(batches, file=side.stdin, flush=True)
            return 100 * batches / float(_line(side))

        for side in sides:
            go(side)
        return _paired([lambda s=side: go(s) for side in sides], [side.pid for side in sides], pairs)  # type: ignore[misc]


def _line(side: subprocess.Popen[str]) -> str:
    said = side.stdout.readline() if side.stdout else ""
    if not said:
        raise SystemExit(f"a side of the ledger ended (exit status {side.wait()})")
    return said


FAMILIES = {"training": _training, "full": _full, "serving": _serving, "ledger": _ledger}


def _paired(goes: Sequence[Go], pids: Sequence[int], pairs: int) -> dict[str, Any]:
    """The first side over the second, pair by pair; which of them goes first changes from pair to pair."""
    watch, logs, disturbed, started = Others([os.getpid(), *pids]), [], 0, time.monotonic()
    while len(logs) < pairs and len(logs) + disturbed < MOST * pairs:
        watch.begin()
        order = (0, 1) if (len(logs) + disturbed) % 2 == 0 else (1, 0)
        rates = {place: goes[place]() for place in order}
        quiet = watch.share() <= UNDISTURBED
        if quiet:
            logs.append(math.log(rates[0] / rates[1]))
        disturbed += not quiet
        told = "" if quiet else ", disturbed"
        say(f"  pair {len(logs):2}: {rates[0]:7.1f} now, {rates[1]:7.1f} then, {rates[0] / rates[1]:.3f}{told}")
    half = _t(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    low, mean, high = (round(math.exp(fmean(logs) + side), 4) for side in (-half, 0.0, half))
    told_of = {"ratio": mean, "low": low, "high": high, "bar": BAR, "holds": low >= BAR, "pairs": len(logs)}
    return told_of | {"left_out": disturbed, "seconds": round(time.monotonic() - started, 1)}


def _t(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


if __name__ == "__main__":
    main()
