"""Where the metrics of a training are shown beside our own record: MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Value


class TrackedTraining(Value):
    """Names and settings of one training. ``experiment`` gathers the trainings of one objective, ``run`` those of one climb."""

    experiment: str
    run: str
    name: str
    settings: Mapping[str, str]


class Tracker(Protocol):
    """Shows one training at a time. What it shows are numbers and settings; no text of rows. Each method raises Unavailable."""

    def begin(self, training: TrackedTraining) -> None:
        """Starts to show ``training``; one that was interrupted is gone on with under the same names."""
        ...

    def note(self, line: TrainingProgress) -> None:
        """Shows a step."""
        ...

    def end(self, report: TrainingReport | None) -> None:
        """Nothing more comes: ``report`` of a training that is done, None of one that ended early. Everything noted is shown by then."""
        ...


def numbers(line: TrainingProgress) -> dict[str, float]:
    """What all trackers show of a step, by name."""
    shown = {
        "loss": line.loss,
        "learning_rate": line.learning_rate,
        "tokens": float(line.tokens),
        "tokens_per_second": line.tokens_per_second,
        "memory_gib": line.memory_gb,
    }
    return shown if line.held_out_loss is None else shown | {"held_out_loss": line.held_out_loss}


class Notifier(Protocol):
    """Tells somebody outside: a webhook, say."""

    def send(self, message: Mapping[str, object]) -> None:
        """Delivers one JSON message. Raises Unavailable when it could not be delivered, after trying more than once."""
        ...
