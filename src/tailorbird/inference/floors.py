"""Linear models in the engine: labels by words, or by vectors of an encoder, which is the floor's own or one that many share with adapters.

Encoders, adapters and heads stand in the registry, with the weights of language models: one budget, one order in which what nobody uses is
put out. A floor's own encoder stays. A request whose adapter is not in memory waits until it was read, beside those that are answered
meanwhile. Texts of up to 32 requests are read at a time, by one thread, tenants in turn.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Exhausted, InvalidInput, ModelInvalid, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.inference.blocking_call import WAITING, WAITING_EACH, Cancel, defect, told
from tailorbird.inference.openmp_threads import release_threads
from tailorbird.inference.registry import Held, Registry, Weights
from tailorbird.inference.scheduling import is_full
from tailorbird.inference.shared_encoder import EncoderAdapter, SharedEncoder
from tailorbird.inference.text.decoding import not_finite
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import LabelScores, Told
from tailorbird.system.files import digest_file
from tailorbird.system.process import LAST_STEP, end_before_exit
from tailorbird.text.linear_classifier import ENCODER, LinearText, read_linear

#: Texts that are embedded together.
_TOGETHER = 32
#: Requests whose adapters were read for them and that wait for their turn: more would take memory beyond the budget.
_AHEAD = 32
#: Seconds without a text after which the thread ends; the next text begins another.
_IDLE = 10.0


class _OwnEncoder:
    """The encoder in the folder of a floor. Raises ModelInvalid."""

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self._encoder, self._folder = encoder, folder
        self.width = encoder.embed(folder, [""]).shape[1]

    @property
    def nbytes(self) -> int:
        return self._encoder.nbytes

    def embed(self, texts: Sequence[str], adapters: Sequence[EncoderAdapter]) -> Vectors:
        del adapters
        return self._encoder.embed(self._folder, texts)


@dataclass(eq=False)
class _FloorRequest:
    """A request and who is told. ``read``: its adapter was read for it."""

    held: Held
    prompt: Sequence[Message]
    labels: Sequence[str]
    tell: Callable[[Told], object]
    started: float = field(default_factory=time.perf_counter)
    read: bool = False
    over: bool = False

    @property
    def tenant(self) -> str:
        return self.held.servable.tenant

    @property
    def encoder(self) -> Any:
        return self.held.weights[0].content

    @property
    def adapter(self) -> EncoderAdapter:
        found: EncoderAdapter = self.held.weights[-1].content
        return found


class Floors:
    """Floors by the id of their servable. One that reads words answers at once; one that reads vectors, when its turn has come. Equal
    encoders of several floors are in memory once. Thread-safe; callers are told from other threads."""

    def __init__(self, registry: Registry, make_encoder: Callable[[], Encoder]) -> None:
        self._registry, self._make_encoder = registry, make_encoder
        self._floors: dict[Digest, Held] = {}
        #: Folders of floors' own encoders by their content. Guarded by ``_loading``.
        self._own: dict[Digest, str] = {}
        self._changed, self._loading = threading.Condition(), threading.Lock()
        #: Requests that wait for their adapter, those that wait for their turn, and how many for which an adapter was read are not over.
        self._parked: list[_FloorRequest] = []
        self._waiting: list[_FloorRequest] = []
        self._ahead, self._closed = 0, False
        self._thread: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="encoder-adapters")

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """Reads the floor of ``servable``, where it has one, and its encoder; others answer meanwhile. Raises ModelInvalid."""
        if servable.floor is None:
            return
        pinned = pinned or servable.encoder is None
        with self._loading:
            with self._changed:
                known = self._floors.get(servable.id)
            if known is not None:
                known.pinned = pinned
                return
            held, floor = Held(servable, pinned=pinned), Path(servable.floor)
            if servable.encoder is not None:
                self._registry.keep(held, lambda: self._adapted(servable))
            else:
                head = read_linear(floor)
                encoder = self._own_folder(floor / ENCODER) if head.width else None
                self._registry.keep(held, lambda: self._whole(floor, head, encoder))
            with self._changed:
                self._floors[servable.id] = held

    def _adapted(self, servable: Servable) -> list[Weights]:
        encoder = self._registry.shared(servable.encoder or "", SharedEncoder)
        return [encoder, self._registry.shared(servable.floor or "", lambda folder: encoder.content.read_adapter(folder), small=True)]

    def _whole(self, floor: Path, head: LinearText, encoder: str | None) -> list[Weights]:
        if encoder is None:
            return [self._registry.shared(str(floor), lambda _: EncoderAdapter(None, head), small=True)]
        own = self._registry.shared(encoder, self._read_own)

        def fitting(_: Path) -> EncoderAdapter:
            if own.content.width != head.width:
                raise _damaged()
            return EncoderAdapter(None, head)

        return [own, self._registry.shared(str(floor), fitting, small=True)]

    def _read_own(self, folder: Path) -> _OwnEncoder:
        try:
            return _OwnEncoder(self._make_encoder(), folder)
        except ModelInvalid as error:
            raise _damaged() from error

    def _own_folder(self, folder: Path) -> str:
        """``folder``, or that of an equal encoder which a floor that is loaded has."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = digest_bytes(*(f"{path.relative_to(folder)} {digest_file(path)}\n".encode() for path in files))
        with self._changed:
            used = {str(weights.folder) for held in self._floors.values() for weights in held.weights}
        self._own = {known: place for known, place in self._own.items() if place in used}
        return self._own.setdefault(content, str(folder))

    def unload(self, servable: Digest) -> None:
        """No request begins any more; it goes when the last has ended. Unknown ids are ignored."""
        with self._changed:
            held = self._floors.pop(servable, None)
        if held is not None:
            self._registry.leave(held)

    def ids(self) -> tuple[Digest, ...]:
        """Servables that are floors, whether they are in memory or not."""
        with self._changed:
            return tuple(self._floors)

    def knows(self, servable: Digest) -> bool:
        """True of one of ``ids``."""
        with self._changed:
            return servable in self._floors

    def score(
        self, servable: Digest, prompt: Sequence[Message], labels: Sequence[str], tell: Callable[[Told], object], *, bounded: bool = False
    ) -> Cancel:
        """As ``RequestAdmission.score``: of the prompt the last message is read, so no token is. Raises InvalidInput for labels that are
        not the floor's own."""
        with self._changed:
            if (held := self._floors.get(servable)) is None:
                raise NotFound("this servable is not loaded", "load it before asking it")
            resident = self._registry.use(held)
        request = _FloorRequest(held, prompt, labels, tell)
        try:
            if resident:
                self._enter(request, bounded=bounded)
            else:
                # It waits for its adapter. Raises as ``_enter``.
                with self._changed:
                    self._check_room(self._parked, request, bounded=bounded)
                    first = all(parked.held is not request.held for parked in self._parked)
                    self._parked.append(request)
                    if first:
                        self._readers.submit(self._bring, request.held)
        except BaseException:
            self._registry.release(held)
            raise
        return lambda: self._cancel(request)

    def close(self) -> None:
        """Ends all requests that wait with an error."""
        with self._changed:
            self._closed, left = True, [*self._parked, *self._waiting]
            self._parked, self._waiting = [], []
            self._changed.notify_all()
        self._readers.shutdown(wait=False, cancel_futures=True)
        for request in left:
            self._end(request, _closing())

    def end(self) -> None:
        """As ``close``, and waits until what is embedded now is over."""
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(LAST_STEP)

    def _enter(self, request: _FloorRequest, *, bounded: bool) -> None:
        """It is answered, or waits for its turn; its adapter is in memory. Raises InvalidInput, Unavailable after the end, and Exhausted
        where ``bounded`` and too many wait."""
        head = request.adapter.head
        if set(request.labels) != set(head.labels) or not request.prompt:
            raise InvalidInput("a floor answers with its own labels alone", "ask for the labels of its release", code="labels_differ")
        if not head.width:
            return self._answer(request, None)
        with self._changed:
            self._check_room(self._waiting, request, bounded=bounded)
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vectors", daemon=True)
                end_before_exit(self)
                self._thread.start()
            self._changed.notify_all()
        return None

    def _check_room(self, others: Sequence[_FloorRequest], request: _FloorRequest, *, bounded: bool) -> None:
        if self._closed:
            raise _closing()
        if bounded and is_full(Counter(one.tenant for one in others), request.tenant, WAITING, WAITING_EACH):
            raise Exhausted("too many requests wait for this model", "try again in a second", code="engine_busy")

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

    def _run(self) -> None:
        while together := self._next():
            embedded = self._embed(together)
            release_threads()
            for request, vector in zip(together, embedded, strict=True):
                self._answer(request, vector)

    def _embed(self, together: list[_FloorRequest]) -> list[Vectors | TailorbirdError]:
        """A vector (1, width) each, or why there is none. Where they cannot be embedded at once, each is tried alone: the text that fails
        must not fail those beside it."""
        try:
            texts, adapters = [request.prompt[-1].content for request in together], [request.adapter for request in together]
            vectors: Vectors = together[0].encoder.embed(texts, adapters)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not end the thread
            if len(together) > 1:
                return [found for request in together for found in self._embed([request])]
            return [told(error)]
        return [vectors[place : place + 1] for place in range(len(together))]

    def _next(self) -> list[_FloorRequest]:
        """What is embedded next, by the encoder of who has waited longest; nothing, and the thread is over, after a while without work."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait_for(lambda: self._waiting or self._closed, _IDLE)
            together = _in_turn(self._waiting)[:_TOGETHER]
            self._waiting = [request for request in self._waiting if request not in together]
            if not together:
                self._thread = None
            return together

    def _answer(self, request: _FloorRequest, vector: Vectors | TailorbirdError | None) -> None:
        try:
            found: Told = vector if isinstance(vector, TailorbirdError) else _scored(request, vector)
        except Exception as error:  # noqa: BLE001 - who asked must hear of it
            found = told(error)
        self._end(request, found)

    def _end(self, request: _FloorRequest, found: Told | None) -> None:
        """Lets the floor go, and tells who asked, unless nobody wants to hear (None). Once: what was ended before is left alone."""
        with self._changed:
            if request.over:
                return
            request.over = True
            self._ahead -= request.read
            self._changed.notify_all()
        self._registry.release(request.held)
        try:
            if found is not None:
                request.tell(found)
        except Exception as error:  # noqa: BLE001 - whoever cannot be told must not keep others from it
            defect(error)

    def _cancel(self, request: _FloorRequest) -> None:
        with self._changed:
            waits = request in self._parked or request in self._waiting
            self._parked = [each for each in self._parked if each is not request]
            self._waiting = [each for each in self._waiting if each is not request]
        if waits:
            self._end(request, None)


def _in_turn(waiting: list[_FloorRequest]) -> list[_FloorRequest]:
    """Those who ask the encoder of the first, one of each tenant in turn; within a tenant in the order of asking."""
    by_tenant: dict[str, list[_FloorRequest]] = {}
    for request in waiting:
        if request.encoder is waiting[0].encoder:
            by_tenant.setdefault(request.tenant, []).append(request)
    return [request for turn in zip_longest(*by_tenant.values()) for request in turn if request is not None]


def _scored(request: _FloorRequest, vector: Vectors | None) -> LabelScores:
    """Scores of the labels that were asked, in that order. Raises what ``not_finite`` makes."""
    head = request.adapter.head
    scores = head.scores([request.prompt[-1].content], vector)
    if not np.isfinite(scores.nats_BK).all():
        raise not_finite()
    return LabelScores(
        log_probabilities=tuple(scores.nats_BK[0, [head.labels.index(label) for label in request.labels]].tolist()),
        prompt_tokens=0,
        latency_ms=(time.perf_counter() - request.started) * 1000,
        energy=None if head.alone else float(scores.energy_B[0]),
        nearness=None if scores.nearness_B is None else float(scores.nearness_B[0]),
    )


def _damaged() -> ModelInvalid:
    return ModelInvalid("the encoder of this floor cannot be read", "restore the artifact, or adapt again")


def _closing() -> Unavailable:
    return Unavailable("the engine is being closed", "try again in a few seconds", code="engine_unavailable")
