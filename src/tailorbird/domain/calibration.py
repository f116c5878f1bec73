"""What a few timed steps of training found on one machine, and how far estimates were from what happened.

In: what a trainer measured. Out: values that planning fits its formulas to. Must not know: the formulas (``planning/``).
"""

from __future__ import annotations

from datetime import datetime

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Estimate, TrainingSettings
from tailorbird.domain.value import Digest, Value


class TimedPass(Value):
    """A forward and backward pass over packed rows: ``tokens``, (query, key) ``pairs`` that are not masked, ``answers`` that met the head.

    ``seconds`` of both directions, ``forward_seconds`` without gradients, ``peak_gb`` the highest resident set of the process (GiB).
    """

    tokens: int
    pairs: int
    answers: int
    seconds: float
    forward_seconds: float
    peak_gb: float


class Calibration(Value):
    """A few timed steps of one method on one base model and machine, at ``settings``.

    ``machine`` names the machine, ``base_model`` the weights. ``process_gb`` is the resident set before the model was read, ``held_gb``
    that between two steps (weights, moments). ``update_seconds`` is one optimiser step, ``moments_seconds`` what the first takes beyond
    that, ``write_mb_s`` how fast the workspace keeps a checkpoint: written, synced, and read again for its digest.
    """

    machine: str
    base_model: Digest
    settings: TrainingSettings
    measured_at: datetime
    passes: tuple[TimedPass, ...]
    update_seconds: float
    moments_seconds: float = 0.0
    read_seconds: float
    write_mb_s: float
    process_gb: float
    held_gb: float
    trained_parameters: int


class EstimateError(Value):
    """What was estimated for a rung that was trained, and what it took: ``seconds`` of the training itself, ``memory`` the GiB that the
    process grew by. ``calibrated`` tells whether timed steps stood behind the estimate."""

    run: str
    rung: RungKind
    variant: str
    base_model: str
    machine: str
    at: datetime
    calibrated: bool
    seconds: Estimate
    took_seconds: float
    memory: Estimate
    took_memory: float

    @property
    def time_error(self) -> float:
        """Relative error of the likely time: above 0 where it was over-estimated."""
        return self.seconds.likely / self.took_seconds - 1 if self.took_seconds else 0.0

    @property
    def memory_error(self) -> float:
        """Relative error of the likely memory."""
        return self.memory.likely / self.took_memory - 1 if self.took_memory else 0.0
