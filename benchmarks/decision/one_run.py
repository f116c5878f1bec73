"""One training run, watched from outside the loop: what it really took.

In: a case as JSON argument. Out: one JSON object on stdout: peak resident set of the process (GiB), seconds, tokens. Must not know: estimates.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import psutil
from cases import Case, job_of

from tailorbird.domain.run import TrainingProgress
from tailorbird.training import open_trainer


def watch(found: dict[str, float], stop: threading.Event) -> None:
    """Samples the resident set; what is on the disk's cache is not counted by the system."""
    process = psutil.Process()
    while not stop.wait(0.004):
        found["peak"] = max(found.get("peak", 0.0), process.memory_info().rss / 2**30)


def main() -> None:
    case = Case.load(sys.argv[1])
    work = Path(sys.argv[2])
    found: dict[str, float] = {}
    stop = threading.Event()
    threading.Thread(target=watch, args=(found, stop), daemon=True).start()
    trainer = open_trainer()
    found["imported"] = psutil.Process().memory_info().rss / 2**30
    marks: list[tuple[float, float]] = []

    def report(line: TrainingProgress) -> None:
        marks.append((line.seconds, psutil.Process().memory_info().rss / 2**30))

    job = job_of(case, work)
    started = time.perf_counter()
    made = trainer.train(job, report)
    seconds = time.perf_counter() - started
    stop.set()
    print(
        json.dumps(
            {
                "case": case.name,
                "imported_gib": found["imported"],
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "sampled_gib": found["peak"],
                "seconds": seconds,
                "loop_seconds": made.report.seconds,
                "steps": made.report.steps,
                "tokens": made.report.tokens,
                "flops": made.report.flops,
                "above_model_gib": made.report.peak_memory_gb,
                "first": marks[0],
                "halved": made.report.halved_at,
            }
        )
    )


if __name__ == "__main__":
    main()
