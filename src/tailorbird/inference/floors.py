"""Loaded floors: classical models that answer without a language model.

In: servables with a floor. Out: log-probabilities of labels. Must not know: tensors, how a text becomes a vector, prompts beyond the text
that is asked about.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_bytes
from tailorbird.foundations.linear_text import ENCODER, LinearText, read_linear
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import LabelScores


@dataclass(frozen=True)
class _Loaded:
    """A floor, and where its encoder lies; None where it reads words alone."""

    model: LinearText
    encoder: Path | None


class Floors:
    """Floors by the id of their servable. Reading one takes milliseconds, and asking it less; one that reads vectors asks ``encoder``,
    one thread at a time. Equal encoders of several floors are in memory once. Thread-safe."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._encoding = encoder, threading.Lock()
        self._floors: dict[Digest, _Loaded] = {}
        #: Where encoders lie that were read, by their content.
        self._encoders: dict[Digest, Path] = {}

    @property
    def nbytes(self) -> int:
        """Memory of encoders. May be asked by any thread."""
        return self._encoder.nbytes

    def load(self, servable: Servable) -> None:
        """Reads the floor of ``servable``, which has one, and its encoder: no request waits for it. Raises ModelInvalid."""
        if servable.floor is not None and servable.id not in self._floors:
            folder = Path(servable.floor)
            model = read_linear(folder)
            with self._encoding:
                self._floors[servable.id] = _Loaded(model, self._read(folder / ENCODER) if model.width else None)

    def unload(self, servable: Digest) -> None:
        """Forgets it, and its encoder where no other floor asks that; unknown ids are ignored."""
        with self._encoding:
            gone = self._floors.pop(servable, None)
            if gone is not None and gone.encoder is not None and all(other.encoder != gone.encoder for other in self._floors.values()):
                self._encoder.forget(gone.encoder)
                self._encoders = {content: place for content, place in self._encoders.items() if place != gone.encoder}

    def _read(self, folder: Path) -> Path:
        """Where the encoder in ``folder``, or its equal, lies in memory."""
        content = digest_bytes(*(part for path in sorted(folder.iterdir()) for part in (path.name.encode(), path.read_bytes())))
        if content not in self._encoders:
            self._encoder.embed(folder, [""])
            self._encoders[content] = folder
        return self._encoders[content]

    def ids(self) -> tuple[Digest, ...]:
        """Servables that are floors."""
        return tuple(self._floors)

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        """As ``Engine.score``: of each prompt the last message is read, so no token is. Raises InvalidInput for labels that are not the
        floor's own."""
        loaded = self._floors[servable]
        floor = loaded.model
        if set(labels) != set(floor.labels) or not all(prompts):
            raise InvalidInput("a floor answers with its own labels alone", "ask for the labels of its release", code="labels_differ")
        places = [floor.labels.index(label) for label in labels]
        return [self._scored(loaded, prompt[-1].content, places) for prompt in prompts]

    def _scored(self, loaded: _Loaded, text: str, places: Sequence[int]) -> LabelScores:
        started = time.perf_counter()
        [nats_K] = loaded.model.log_probabilities([text], self._vectors(loaded.encoder, text))
        ordered = tuple(float(nats_K[place]) for place in places)
        return LabelScores(log_probabilities=ordered, prompt_tokens=0, latency_ms=(time.perf_counter() - started) * 1000)

    def _vectors(self, encoder: Path | None, text: str) -> Vectors | None:
        if encoder is None:
            return None
        with self._encoding:
            return self._encoder.embed(encoder, [text])
