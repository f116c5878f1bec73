"""The learning rate over a run."""

from __future__ import annotations

import math

from tailorbird.domain.plan import TrainingSettings


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """The rate at ``step`` (0-based).

    Linear warm-up over a share of ``steps``, then a half cosine to zero at the end (Loshchilov & Hutter 2017).
    """
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def warmup_steps(settings: TrainingSettings, steps: int) -> int:
    """Steps in which the rate rises."""
    return math.ceil(settings.warmup * steps)
