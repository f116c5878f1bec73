"""Runs a job given as JSON in two processes that train together over the loopback device, and prints the report.

In a network of its own, where the system lets it make one: nothing outside can be reached. ``end_after`` a step raises there, as a budget
does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from tailorbird.domain.errors import Exhausted, TailorbirdError
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer

RANKS = 2
#: For ``end_after``: another process is killed instead.
KILL = -2


def train(job: TrainingJob, end_after: int) -> None:
    def report(line: TrainingProgress) -> None:
        if end_after == KILL and line.step == 2:
            psutil.Process().children()[-1].kill()
        if line.step == end_after:
            raise Exhausted("the budget is used up", "ask for more", code="budget_spent")

    try:
        sys.stdout.write(open_trainer(RANKS).train(job, report).report.model_dump_json() + "\n")
    except TailorbirdError as error:
        sys.stdout.write(json.dumps({"raised": type(error).__name__, **error.as_dict()}) + "\n")


def start(job: str, end_after: str) -> None:
    """Again, in a network without anything but loopback."""
    apart = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    command = f'ip link set lo up 2>/dev/null; exec "{sys.executable}" "{__file__}" "{job}" {end_after}'
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "IN_TEAM": "1"}
    subprocess.run([*(["unshare", "--net"] if apart else []), "bash", "-c", command], env=environment, check=True)


if __name__ == "__main__":
    if "IN_TEAM" in os.environ:
        train(TrainingJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")), int(sys.argv[2]))
    else:
        start(*sys.argv[1:])
