"""One training run, watched from outside the loop: what it really took.

In: a case as JSON argument. Out: one JSON object on stdout: peak resident set (GiB), seconds, tokens. Must not know: estimates.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if os.environ.get("CPU_SECONDS"):
    # On a machine that others use too: what the processor spent on this process, before and behind the estimate alike.
    time.monotonic = time.perf_counter = time.process_time

from cases import Case, job_of

from tailorbird.domain.run import TrainingProgress
from tailorbird.training import open_trainer


def _silent(_: TrainingProgress) -> None:
    """Tells nobody."""


def main() -> None:
    case = Case.load(sys.argv[1])
    work = Path(sys.argv[2])
    trainer = open_trainer()
    job = job_of(case, work)
    started = time.perf_counter()
    made = trainer.train(job, _silent)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "case": case.name,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "seconds": seconds,
                "loop_seconds": made.report.seconds,
                "steps": made.report.steps,
                "tokens": made.report.tokens,
                "flops": made.report.flops,
                "above_model_gib": made.report.peak_memory_gb,
            }
        )
    )


if __name__ == "__main__":
    main()
