"""Runs a job given as JSON on stdin, and says each step on stdout: a process for tests to kill."""

from __future__ import annotations

import sys

import torch

from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import loop, open_trainer

torch.set_num_threads(1)
loop._CHECKPOINT_SECONDS = 0.0
loop._CHECKPOINT_SHARE = 1e9


def say(line: TrainingProgress) -> None:
    sys.stdout.write(f"{line.step}\n")
    sys.stdout.flush()


open_trainer().train(TrainingJob.model_validate_json(sys.stdin.read()), say)
