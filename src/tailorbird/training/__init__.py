"""Trains adapters and full weights: one loop for every method. One of the two places where torch lives.

In: training jobs (examples, a prompt, resolved settings, a base model's folder). Out: a folder with an adapter or weights, and a report.
Must not know: why this job was chosen, tenants, releases.
"""

from tailorbird.ports.trainer import Trainer
from tailorbird.training.trainer import TorchTrainer

__all__ = ["open_trainer"]


def open_trainer(processes: int = 1) -> Trainer:
    """The trainer of this process; a job is trained by ``processes`` together, 0 for one on each CUDA device. Nothing is read yet."""
    return TorchTrainer(processes)
