"""Loaded floors: classical models that answer without a language model.

In: servables with a floor. Out: log-probabilities of labels. Must not know: tensors, how a text becomes a vector, prompts beyond the text
that is asked about.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.foundations.linear_text import ENCODER, LinearText, read_linear
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import LabelScores


class Floors:
    """Floors by the id of their servable. Reading one takes milliseconds, and asking it less; one that reads vectors asks ``encoder``,
    one thread at a time. Thread-safe."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._encoding = encoder, threading.Lock()
        self._floors: dict[Digest, tuple[LinearText, Path]] = {}

    @property
    def nbytes(self) -> int:
        """Memory of encoders. May be asked by any thread."""
        return self._encoder.nbytes

    def load(self, servable: Servable) -> None:
        """Reads the floor of ``servable``, which has one. Raises ModelInvalid."""
        if servable.floor is not None and servable.id not in self._floors:
            folder = Path(servable.floor)
            floor = read_linear(folder)
            if floor.width:
                # Reads the encoder now, so that a damaged one is found here and the first request does not wait for it.
                self._vectors(folder / ENCODER, "")
            self._floors[servable.id] = (floor, folder / ENCODER)

    def unload(self, servable: Digest) -> None:
        """Forgets it; unknown ids are ignored."""
        self._floors.pop(servable, None)

    def ids(self) -> tuple[Digest, ...]:
        """Servables that are floors."""
        return tuple(self._floors)

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        """As ``Engine.score``: of each prompt the last message is read, so no token is. Raises InvalidInput for labels that are not the
        floor's own."""
        floor, encoder = self._floors[servable]
        if set(labels) != set(floor.labels) or not all(prompts):
            raise InvalidInput("a floor answers with its own labels alone", "ask for the labels of its release", code="labels_differ")
        places = [floor.labels.index(label) for label in labels]
        return [self._scored(floor, encoder, prompt[-1].content, places) for prompt in prompts]

    def _scored(self, floor: LinearText, encoder: Path, text: str, places: Sequence[int]) -> LabelScores:
        started = time.perf_counter()
        [nats_K] = floor.log_probabilities([text], self._vectors(encoder, text) if floor.width else None)
        ordered = tuple(float(nats_K[place]) for place in places)
        return LabelScores(log_probabilities=ordered, prompt_tokens=0, latency_ms=(time.perf_counter() - started) * 1000)

    def _vectors(self, encoder: Path, text: str) -> Vectors:
        with self._encoding:
            return self._encoder.embed(encoder, [text])
