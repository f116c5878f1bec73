"""Linear models whose encoder is one that many share, changed by an adapter of their own: residency and requests.

Encoder and adapters stand in the registry, with the weights of language models: one budget, one order in which what nobody uses is put
out. A request whose adapter is not in memory waits until it was read, beside those that are answered meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Exhausted, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.inference.blocking_call import WAITING, WAITING_EACH, Cancel, told
from tailorbird.inference.embedding_batcher import EmbeddingBatcher, EmbeddingRequest
from tailorbird.inference.linear_scores import check_labels, scored
from tailorbird.inference.registry import Held, Registry, Weights
from tailorbird.inference.shared_encoder import EncoderAdapter, SharedEncoder
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.engine import Told

#: Requests whose adapters were read for them and that wait for their turn: more would take memory beyond the budget.
_AHEAD = 32


@dataclass(eq=False)
class _AdapterRequest:
    """A request and who is told. ``read``: its adapter was read for it. ``asked`` is what waits for its turn."""

    held: Held
    prompt: Sequence[Message]
    labels: Sequence[str]
    tell: Callable[[Told], object]
    started: float = field(default_factory=time.perf_counter)
    read: bool = False
    asked: EmbeddingRequest | None = None
    over: bool = False


class AdaptedFloors:
    """Floors with an adapter of a shared encoder, by the id of their servable. Thread-safe; callers are told from other threads."""

    def __init__(self, registry: Registry, lane: EmbeddingBatcher) -> None:
        self._registry, self._lane = registry, lane
        self._floors: dict[Digest, Held] = {}
        self._changed, self._loading = threading.Condition(), threading.Lock()
        #: Requests that wait for their adapter, and how many of those for which one was read are not over.
        self._parked: list[_AdapterRequest] = []
        self._ahead, self._closed = 0, False
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="encoder-adapters")

    def load(self, servable: Servable, *, pinned: bool) -> None:
        """Reads the adapter of ``servable``, which names an encoder, and that encoder where nobody has. Raises ModelInvalid."""
        with self._loading:
            with self._changed:
                known = self._floors.get(servable.id)
            if known is not None:
                known.pinned = pinned
                return
            held = Held(servable, pinned=pinned)
            self._registry.keep(held, lambda: self._needed(servable))
            with self._changed:
                self._floors[servable.id] = held

    def _needed(self, servable: Servable) -> list[Weights]:
        encoder = self._registry.shared(servable.encoder or "", SharedEncoder)
        adapter = self._registry.shared(servable.floor or "", lambda folder: _encoder_of(encoder).read_adapter(folder), small=True)
        return [encoder, adapter]

    def unload(self, servable: Digest) -> None:
        """No request begins any more; it goes when the last has ended. Unknown ids are ignored."""
        with self._changed:
            held = self._floors.pop(servable, None)
        if held is not None:
            self._registry.leave(held)

    def ids(self) -> tuple[Digest, ...]:
        """Servables that have such an adapter, whether it is in memory or not."""
        with self._changed:
            return tuple(self._floors)

    def knows(self, servable: Digest) -> bool:
        """True of one of ``ids``."""
        with self._changed:
            return servable in self._floors

    def score(
        self, servable: Digest, prompt: Sequence[Message], labels: Sequence[str], tell: Callable[[Told], object], *, bounded: bool
    ) -> Cancel:
        """As ``Baselines.score``."""
        with self._changed:
            if (held := self._floors.get(servable)) is None:
                raise NotFound("this servable is not loaded", "load it before asking it", code="servable_not_loaded")
            resident = self._registry.use(held)
        request = _AdapterRequest(held, prompt, labels, tell)
        try:
            if resident:
                self._enter(request, bounded=bounded)
            else:
                self._park(request, bounded=bounded)
        except BaseException:
            self._registry.release(held)
            raise
        return lambda: self._cancel(request)

    def close(self) -> None:
        """Ends all requests that wait for their adapter with an error."""
        with self._changed:
            self._closed, left, self._parked = True, self._parked, []
            self._changed.notify_all()
        self._readers.shutdown(wait=False, cancel_futures=True)
        for request in left:
            self._end(request, _closing())

    def _enter(self, request: _AdapterRequest, *, bounded: bool) -> None:
        """It waits for its turn; its adapter is in memory. Raises as ``check_labels`` and ``EmbeddingBatcher.add``."""
        encoder, adapter = (weights.content for weights in request.held.weights)
        check_labels(adapter.head.labels, request.prompt, request.labels)
        tenant, text = request.held.servable.tenant, request.prompt[-1].content
        request.asked = EmbeddingRequest(tenant, encoder, text, lambda found: self._answer(request, found), adapter)
        self._lane.add(request.asked, bounded=bounded)

    def _park(self, request: _AdapterRequest, *, bounded: bool) -> None:
        """It waits for its adapter. Raises Unavailable after the end, and Exhausted where ``bounded`` and too many wait."""
        with self._changed:
            if self._closed:
                raise _closing()
            tenant = request.held.servable.tenant
            theirs = sum(parked.held.servable.tenant == tenant for parked in self._parked)
            if bounded and (len(self._parked) >= WAITING or theirs >= WAITING_EACH):
                raise Exhausted("too many requests wait for this model", "try again in a second", code="engine_busy")
            first = all(parked.held is not request.held for parked in self._parked)
            self._parked.append(request)
            if first:
                self._readers.submit(self._bring, request.held)

    def _bring(self, held: Held) -> None:
        """Reads what ``held`` lacks, in the readers' thread, and lets its requests wait for their turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ahead < _AHEAD)
        error: TailorbirdError | None = None
        try:
            self._registry.bring(held)
        except Exception as caught:  # noqa: BLE001 - whatever it is, the requests that wait for it must hear of it
            error = told(caught)
        with self._changed:
            mine = [request for request in self._parked if request.held is held]
            self._parked = [request for request in self._parked if request.held is not held]
            for request in mine:
                request.read = error is None
                self._ahead += request.read
        for request in mine:
            try:
                if error is not None:
                    raise error
                self._enter(request, bounded=False)
            except Exception as failure:  # noqa: BLE001 - see above
                self._end(request, told(failure))

    def _answer(self, request: _AdapterRequest, vector: Vectors | TailorbirdError) -> None:
        try:
            if isinstance(vector, TailorbirdError):
                raise vector
            adapter: EncoderAdapter = request.held.weights[1].content
            places = [adapter.head.labels.index(label) for label in request.labels]
            found: Told = scored(adapter.head, request.prompt[-1].content, vector, places, request.started)
        except Exception as error:  # noqa: BLE001 - who asked must hear of it
            found = told(error)
        self._end(request, found)

    def _end(self, request: _AdapterRequest, found: Told | None) -> None:
        """Lets the adapter go, and tells who asked, unless nobody wants to hear (None). Once: what was ended before is left alone."""
        with self._changed:
            if request.over:
                return
            request.over = True
            self._ahead -= request.read
            self._changed.notify_all()
        self._registry.release(request.held)
        if found is not None:
            request.tell(found)

    def _cancel(self, request: _AdapterRequest) -> None:
        with self._changed:
            parked = request in self._parked
            self._parked = [each for each in self._parked if each is not request]
        if parked or (request.asked is not None and self._lane.drop(request.asked)):
            self._end(request, None)


def _encoder_of(weights: Weights) -> SharedEncoder:
    encoder: SharedEncoder = weights.content
    return encoder


def _closing() -> Unavailable:
    return Unavailable("the engine is being closed", "try again in a few seconds", code="engine_closed")
