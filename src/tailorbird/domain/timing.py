"""Timed training steps of one machine, and errors of past estimates."""

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

    All seconds are those of a quiet machine. ``loaded`` tells that other processes wanted the cores meanwhile, so that they were put
    together from processor time: good for some hours, and read anew after that. ``efficiency`` is the share of the time in which the thread
    that calls the products computed, where the machine was quiet (0: unknown).
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
    efficiency: float = 0.0
    loaded: bool = False


class EstimateError(Value):
    """What was estimated for a rung that was trained, and what it took: ``seconds`` of the training itself, ``memory`` the GiB that the
    process grew by. ``calibrated`` tells whether timed steps stood behind the estimate.

    ``quiet_seconds`` is what it would have taken on a quiet machine, ``took_seconds`` where it had the machine to itself; 0 where that is
    not known.
    """

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
    quiet_seconds: float = 0.0

    @property
    def time_error(self) -> float:
        """Relative error of the likely time, of a quiet machine where that is known: above 0 where it was over-estimated."""
        took = self.quiet_seconds or self.took_seconds
        return self.seconds.likely / took - 1 if took else 0.0

    @property
    def memory_error(self) -> float:
        """Relative error of the likely memory."""
        return self.memory.likely / self.took_memory - 1 if self.took_memory else 0.0
