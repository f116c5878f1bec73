"""Timed steps of one case, in a process of its own.

In: a case as JSON argument, a folder. Out: the calibration as JSON, the last line of stdout.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if os.environ.get("CPU_SECONDS"):
    # On a machine that others use too: what the processor spent on this process, before and behind the estimate alike.
    time.monotonic = time.perf_counter = time.process_time

from cases import Case, job_of

from tailorbird.training import open_trainer

if __name__ == "__main__":
    print(open_trainer().calibrate(job_of(Case.load(sys.argv[1]), Path(sys.argv[2])), "here").model_dump_json())
