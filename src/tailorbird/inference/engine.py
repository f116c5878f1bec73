"""Torch engine: servables in, scores, answers and vectors out, for many callers at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import NotFound
from tailorbird.domain.evidence import TokenChances
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.inference.admission import Followed, ProbedBy, RequestAdmission, Tell
from tailorbird.inference.blocking_call import BlockingCall
from tailorbird.inference.floors import Floors
from tailorbird.inference.forward.weights import Precision, fingerprint
from tailorbird.inference.forward_factory import Kernels, choose_pass, pass_name, reader_of_adapters, reader_of_decoders
from tailorbird.inference.jobs import chances_after, likelihood_of
from tailorbird.inference.openmp_threads import release_threads
from tailorbird.inference.registry import Registry
from tailorbird.inference.retrieval import Lookups, TorchEncoder
from tailorbird.inference.worker import KV_MB, EngineWorker
from tailorbird.ports.engine import (
    Chunk,
    Embeddings,
    EngineState,
    GenerateRequest,
    Generation,
    LabelScores,
    Likelihood,
    ProbeRequest,
    Ranked,
    ScoreRequest,
    Told,
)
from tailorbird.training.devices import is_gpu, memory_bytes

Conversation = Sequence[Message]
#: What stands for the answer where only its first token's chances are asked for.
_ANY = "."
#: The share of the memory that weights may take, unless the settings say otherwise: of a GPU, which holds nothing but weights, keys and
#: values and what is computed; of a machine, where other programs run.
_GPU_SHARE, _CPU_SHARE = 0.75, 0.5


class TorchEngine:
    """An ``Engine`` and a ``LiveEngine`` on torch. Thread-safe."""

    def __init__(
        self,
        precision: Precision = "auto",
        kernels: Kernels = "auto",
        *,
        memory_mb: int = 0,
        kv_mb: int = KV_MB,
    ) -> None:
        self._placement, self._kernels = choose_pass(precision, kernels)
        readers = (reader_of_decoders(self._placement, self._kernels), reader_of_adapters)
        self._lookups, self._looking = Lookups(TorchEncoder()), threading.Lock()
        #: Loads under way, of which a part may answer already.
        self._unfinished, self._counting = Counter[Digest](), threading.Lock()
        self._registry = Registry(
            readers,
            memory_mb * 2**20 or int(memory_bytes(self._placement.device) * (_GPU_SHARE if is_gpu(self._placement.device) else _CPU_SHARE)),
            freed=lambda loaded: self._worker.forget(loaded.salt),
            put_out=lambda gone: self._worker.drop_lane(gone),
            beside=lambda: self._lookups.nbytes,
        )
        self._floors = Floors(self._registry, TorchEncoder)
        self._worker = EngineWorker(self._registry, kv_mb)
        self._intake = RequestAdmission(self._registry, self._worker)

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """As ``Engine.load`` and ``LiveEngine.load``. What ranks documents, a floor, and a hosted model, for which passages are found here,
        need no language model."""
        fresh = servable.id not in self.loaded()
        with self._counting:
            self._unfinished[servable.id] += fresh
        try:
            self._load(servable, pinned=pinned)
        finally:
            release_threads()
            with self._counting:
                self._unfinished[servable.id] -= fresh

    def _load(self, servable: Servable, *, pinned: bool) -> None:
        with self._looking:
            self._lookups.load(servable, pinned=pinned)
        try:
            self._floors.load(servable, pinned=pinned)
            if servable.task is not TaskKind.RANK and servable.floor is None and servable.hosted is None:
                self._registry.load(servable, pinned=pinned)
            self._registry.make_room()
        except BaseException:
            self._floors.unload(servable.id)
            with self._looking:
                self._lookups.unload(servable.id)
            raise

    def unload(self, servable: Digest) -> None:
        """As ``Engine.unload``."""
        self._floors.unload(servable)
        with self._looking:
            self._lookups.unload(servable)
        self._registry.unload(servable)

    def loaded(self) -> tuple[Digest, ...]:
        """As ``Engine.loaded``."""
        held = dict.fromkeys((*self._registry.ids(), *self._lookups.ids(), *self._floors.ids()))
        return tuple(one for one in held if not self._unfinished[one])

    def retrieve(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        """As ``Engine.retrieve``."""
        self._check_loaded(servable)
        with self._looking:
            return self._lookups.find(servable, texts, groups, count)

    def rank(self, servable: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """As ``Engine.rank``."""
        self._check_loaded(servable)
        with self._looking:
            return self._lookups.rank(servable, text, documents, count)

    def embed(self, servable: Digest, texts: Sequence[str]) -> Embeddings:
        """As ``Engine.embed``."""
        self._check_loaded(servable)
        with self._looking:
            return self._lookups.embed(servable, texts)

    def fingerprint(self) -> str:
        """As ``Engine.fingerprint``."""
        return f"{fingerprint(self._placement)} {pass_name(self._kernels, self._placement)}"

    def state(self) -> EngineState:
        """As ``LiveEngine.state``."""
        told = self._worker.state()
        answering = {one.release for one in told.releases}
        # Not under the lock of lookups, which is held while texts are embedded: this must not wait.
        looking = tuple(one for one in self._lookups.residencies() if one.release not in answering)
        return told.model_copy(update={"releases": told.releases + looking, "loaded": self.loaded()})

    def overdue(self) -> bool:
        """As ``LiveEngine.overdue``."""
        return self._worker.overdue()

    def close(self) -> None:
        """As ``LiveEngine.close``."""
        self._worker.close()
        self._floors.close()

    def count_tokens(self, base: Path, prompts: Sequence[Conversation]) -> list[int]:
        """As ``Engine.count_tokens``."""
        chat, said = self._registry.chat(str(base)), [prompt[-1].content if prompt[-1].role == "assistant" else None for prompt in prompts]
        asked = iter(chat.prompts([prompt for prompt, text in zip(prompts, said, strict=True) if text is None]))
        answers = iter(chat.answers([text for text in said if text is not None]))
        return [len(next(asked if text is None else answers)) for text in said]

    def score(self, servable: Digest, prompts: Sequence[Conversation], labels: Sequence[str]) -> list[LabelScores]:
        """As ``Engine.score``."""
        call = BlockingCall[LabelScores](len(prompts))
        if self._floors.knows(servable):
            return call.results(self._floors.score(servable, prompt, labels, _settling(call, at)) for at, prompt in enumerate(prompts))
        with self._registry.using(servable):
            return call.results(self._intake.score(servable, prompt, labels, _settling(call, at)) for at, prompt in enumerate(prompts))

    def likelihood(
        self, servable: Digest, prompts: Sequence[Conversation], answers: Sequence[str], against: Digest | None = None
    ) -> list[Likelihood]:
        """As ``Engine.likelihood``."""
        pairs = list(zip(prompts, answers, strict=True))
        with self._registry.using(servable), self._registry.using(against or servable):
            said = self._followed(servable, pairs)
            others = self._followed(against, pairs) if against else [None] * len(pairs)
            with torch.inference_mode():
                return [
                    likelihood_of(one.tokens, (one.hidden_RE, one.logits), (other.hidden_RE, other.logits) if other else None)
                    for one, other in zip(said, others, strict=True)
                ]

    def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """As ``Probed.probe``, through the steps that answer everybody."""
        by = ProbedBy(request.bare, f"probe {uuid4()}")

        def followed(prompts: Sequence[Conversation]) -> list[Followed]:
            call = BlockingCall[Followed](len(prompts))
            return call.results(
                self._intake.follow(request.release, prompt, _ANY, _settling(call, at), by) for at, prompt in enumerate(prompts)
            )

        if not request.prompts:
            return []
        with self._registry.using(request.release) as loaded:
            # The first alone: what all begin with is computed once, and others answer meanwhile.
            found = [*followed(request.prompts[:1]), *followed(request.prompts[1:])]
            try:
                with torch.inference_mode():
                    return chances_after(loaded.chat, torch.cat([one.hidden_RE[:1] for one in found]), found[0].logits)
            finally:
                release_threads()

    def _check_loaded(self, servable: Digest) -> None:
        if servable not in self.loaded():
            raise NotFound("this servable is not loaded", "load it before asking it")

    def _followed(self, servable: Digest, pairs: Sequence[tuple[Conversation, str]]) -> list[Followed]:
        call = BlockingCall[Followed](len(pairs))
        return call.results(self._intake.follow(servable, *pair, _settling(call, at)) for at, pair in enumerate(pairs))

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Conversation],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        """As ``Engine.generate``. ``on_text`` is called in the engine's thread."""
        call = BlockingCall[Generation](len(prompts))
        return call.results(
            self._intake.answer(servable, prompt, (sampling, at), _Collected(call, at, on_text)) for at, prompt in enumerate(prompts)
        )

    def submit(self, request: ScoreRequest | GenerateRequest, tell: Tell) -> Callable[[], None]:
        """As ``LiveEngine.submit``."""
        if isinstance(request, ScoreRequest):
            if self._floors.knows(request.release):
                return self._floors.score(request.release, request.prompt, request.labels, tell, bounded=True)
            return self._intake.score(request.release, request.prompt, request.labels, tell, asker=request.groups)
        return self._intake.answer(request.release, request.prompt, (request.sampling, 0), tell, asker=request.groups)


def _settling(call: BlockingCall[Any], at: int) -> Callable[[Any], bool]:
    """Takes the one result of a request to its place in the call."""

    def tell(told: Any) -> bool:
        call.fail(told) if isinstance(told, Exception) else call.settle(at, told)
        return True

    return tell


class _Collected:
    """Makes one answer of its pieces, and shows them as they come."""

    def __init__(self, call: BlockingCall[Generation], at: int, on_text: Callable[[int, str], bool] | None) -> None:
        self._call, self._at, self._on_text = call, at, on_text
        self._started = time.perf_counter()
        self._text = ""

    def __call__(self, told: Told) -> bool:
        """Takes a piece; False when the caller wants no more."""
        if not isinstance(told, Chunk):
            self._call.fail(told if isinstance(told, Exception) else TypeError(type(told).__name__))
            return False
        self._text += told.text
        try:
            wanted = self._on_text is None or not told.text or self._on_text(self._at, told.text)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who waits in another thread
            self._call.fail(error)
            return False
        if told.finish_reason is not None:
            self._call.settle(self._at, self._made(told))
        return wanted

    def _made(self, last: Chunk) -> Generation:
        return Generation(
            text=self._text,
            tool_calls=last.tool_calls,
            finish_reason=last.finish_reason or "stop",
            prompt_tokens=last.prompt_tokens,
            completion_tokens=last.completion_tokens,
            latency_ms=(time.perf_counter() - self._started) * 1000,
        )
