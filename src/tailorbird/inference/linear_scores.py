"""Answer of a linear model to one request, as the engine tells it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message
from tailorbird.inference.text.decoding import not_finite
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.engine import LabelScores
from tailorbird.text.linear_classifier import LinearText


def check_labels(own: Sequence[str], prompt: Sequence[Message], labels: Sequence[str]) -> None:
    """Raises InvalidInput unless ``labels`` are the model's ``own``, in any order, and there is something to read."""
    if set(labels) != set(own) or not prompt:
        raise InvalidInput("a floor answers with its own labels alone", "ask for the labels of its release", code="labels_differ")


def scored(model: LinearText, text: str, vector: Vectors | None, places: Sequence[int], started: float) -> LabelScores:
    """Scores of the labels at ``places``, in that order; ``started`` is when the request came. Raises what ``not_finite`` makes."""
    scores = model.scores([text], vector)
    if not np.isfinite(scores.nats_BK).all():
        raise not_finite()
    return LabelScores(
        log_probabilities=tuple(scores.nats_BK[0, list(places)].tolist()),
        prompt_tokens=0,
        latency_ms=(time.perf_counter() - started) * 1000,
        energy=None if model.alone else float(scores.energy_B[0]),
        nearness=None if scores.nearness_B is None else float(scores.nearness_B[0]),
    )
