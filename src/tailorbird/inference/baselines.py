"""Classical floor models in the engine: scores without a language model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import ModelInvalid, NotFound, TailorbirdError
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.inference.adapted_floors import AdaptedFloors
from tailorbird.inference.blocking_call import Cancel, told
from tailorbird.inference.embedding_batcher import EmbeddingBatcher, EmbeddingRequest
from tailorbird.inference.linear_scores import check_labels, scored
from tailorbird.inference.registry import Registry
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import Residency, Told
from tailorbird.system.files import digest_file
from tailorbird.text.linear_classifier import ENCODER, LinearText, read_linear


@dataclass
class _Read:
    """An encoder in memory: where it was read from, and how many floors ask it."""

    folder: Path
    floors: int = 0


@dataclass(eq=False)
class _Loaded:
    """A floor, its encoder (None where it reads words alone), the requests that are under way, and whether no more may begin."""

    servable: Servable
    model: LinearText
    encoder: _Read | None
    requests: int = 0
    gone: bool = False


class Baselines:
    """Floors by the id of their servable. One that reads words answers at once; one that reads vectors, when its turn has come. Equal
    encoders of several floors are in memory once, and go with the last request of the last of them. Those that have an adapter of a shared
    encoder stand in ``registry``, within its budget. Thread-safe."""

    def __init__(self, encoder: Encoder, registry: Registry | None = None) -> None:
        self._encoder, self._lane = encoder, EmbeddingBatcher(encoder)
        self._adapted = AdaptedFloors(registry, self._lane) if registry else None
        self._floors: dict[Digest, _Loaded] = {}
        #: Encoders by their content.
        self._encoders: dict[Digest, _Read] = {}
        # Held for moments, and while a floor is read.
        self._book, self._reading = threading.Lock(), threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory of floors and of their own encoders, without those that stand in the registry. May be asked by any thread."""
        with self._book:
            floors = sum(one.model.nbytes for one in self._floors.values())
        return self._encoder.nbytes + floors

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """Reads the floor of ``servable``, which has one, and its encoder; others answer meanwhile. ``pinned`` keeps an adapter in memory,
        where a floor's own arrays stay anyway. Raises ModelInvalid."""
        if servable.encoder is not None and self._adapted is not None:
            self._adapted.load(servable, pinned=pinned)
            return
        with self._reading:
            if servable.floor is None or servable.id in self._floors:
                return
            folder = Path(servable.floor)
            model = read_linear(folder)
            encoder = self._encoder_of(folder / ENCODER, model.width) if model.width else None
            with self._book:
                self._floors[servable.id] = _Loaded(servable, model, encoder)

    def unload(self, servable: Digest) -> None:
        """No request begins any more; it goes when the last has ended. Unknown ids are ignored."""
        if self._adapted is not None:
            self._adapted.unload(servable)
        with self._book:
            if (loaded := self._floors.pop(servable, None)) is not None:
                loaded.gone = True
                self._free(loaded)

    def ids(self) -> tuple[Digest, ...]:
        """Servables that are floors."""
        return (*self._floors, *(self._adapted.ids() if self._adapted else ()))

    def knows(self, servable: Digest) -> bool:
        """True of a servable that is a floor."""
        return servable in self._floors or (self._adapted is not None and self._adapted.knows(servable))

    def residencies(self) -> tuple[Residency, ...]:
        """Every floor that is never put out: the registry tells of the others."""
        with self._book:
            loaded = tuple(self._floors.values())
        return tuple(Residency(release=one.servable.id, tenant=one.servable.tenant, resident=True, pinned=True, loads=1) for one in loaded)

    def score(
        self, servable: Digest, prompt: Sequence[Message], labels: Sequence[str], tell: Callable[[Told], object], *, bounded: bool = False
    ) -> Cancel:
        """As ``RequestAdmission.score``: of the prompt the last message is read, so no token is. Raises InvalidInput for labels that are
        not the floor's own."""
        if self._adapted is not None and self._adapted.knows(servable):
            return self._adapted.score(servable, prompt, labels, tell, bounded=bounded)
        started = time.perf_counter()
        loaded = self._hold(servable)

        def answer(vector: Vectors | TailorbirdError | None) -> None:
            try:
                found = vector if isinstance(vector, TailorbirdError) else scored(loaded.model, prompt[-1].content, vector, places, started)
            except Exception as error:  # noqa: BLE001 - who asked must hear of it
                found = told(error)
            self._let_go(loaded)
            tell(found)

        try:
            check_labels(loaded.model.labels, prompt, labels)
            places = [loaded.model.labels.index(label) for label in labels]
            if loaded.encoder is not None:
                asked = EmbeddingRequest(loaded.servable.tenant, loaded.encoder.folder, prompt[-1].content, answer)
                self._lane.add(asked, bounded=bounded)
                return lambda: self._let_go(loaded) if self._lane.drop(asked) else None
        except BaseException:
            self._let_go(loaded)
            raise
        answer(None)
        return _nothing_to_cancel

    def close(self) -> None:
        """Ends all requests with an error."""
        self._lane.close()
        if self._adapted is not None:
            self._adapted.close()

    def _encoder_of(self, folder: Path, width: int) -> _Read:
        """The encoder in ``folder``, or its equal, with one floor more. Raises ModelInvalid."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = digest_bytes(*(f"{path.relative_to(folder)} {digest_file(path)}\n".encode() for path in files))
        with self._book:
            known = self._encoders.get(content)
            if known is not None:
                known.floors += 1
                return known
        try:
            found = self._encoder.embed(folder, [""]).shape[1]
        except ModelInvalid as error:
            raise _damaged() from error
        if found != width:
            self._encoder.forget(folder)
            raise _damaged()
        with self._book:
            self._encoders[content] = read = _Read(folder, floors=1)
        return read

    def _hold(self, servable: Digest) -> _Loaded:
        with self._book:
            if (loaded := self._floors.get(servable)) is None:
                raise NotFound("this servable is not loaded", "load it before asking it", code="servable_not_loaded")
            loaded.requests += 1
            return loaded

    def _let_go(self, loaded: _Loaded) -> None:
        with self._book:
            loaded.requests -= 1
            self._free(loaded)

    def _free(self, loaded: _Loaded) -> None:
        """Forgets the encoder of a floor that is gone, after its last request, where no other floor asks it."""
        if not loaded.gone or loaded.requests or loaded.encoder is None:
            return
        loaded.encoder.floors -= 1
        if not loaded.encoder.floors:
            self._encoder.forget(loaded.encoder.folder)
            self._encoders = {content: read for content, read in self._encoders.items() if read is not loaded.encoder}


def _damaged() -> ModelInvalid:
    return ModelInvalid("the encoder of this floor cannot be read", "restore the artifact, or adapt again", code="floor_invalid")


def _nothing_to_cancel() -> None:
    """What was answered at once."""
