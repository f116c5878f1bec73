"""Runs a job given as JSON on stdin in two processes that train together over the loopback device, and prints the report of the first.

In a network of its own, where the system lets it make one: nothing outside can be reached.
"""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer

RANKS = 2
_START = """
ip link set lo up 2>/dev/null
for rank in 0 1; do RANK=$rank "$0" "$1" < "$2" & done
wait
"""


def train() -> None:
    torch.set_num_threads(1)
    report = open_trainer().train(TrainingJob.model_validate_json(sys.stdin.read()), lambda _: None).report
    if os.environ["RANK"] == "0":
        sys.stdout.write(report.model_dump_json() + "\n")
    torch.distributed.destroy_process_group()


def start(job: str) -> None:
    apart = ["unshare", "--net"] if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0 else []
    team = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run([*apart, "bash", "-c", _START, sys.executable, __file__, job], env=os.environ | team, check=True)


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        start(sys.argv[1])
