"""In-memory engine and encoder: labels scored by shared words, answers that repeat the user in capitals."""

from __future__ import annotations

import hashlib
import math
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from tailorbird.chat.tool_calls import arguments_text, offered_tools, tool_names
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.base_model import Purpose
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, NotFound, TailorbirdError
from tailorbird.domain.evidence import TOLD, TokenChances
from tailorbird.domain.prompt import Entry, Message, RetrievedEntry, Sampling, ToolCall
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Vectors
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
    Residency,
    ScoreRequest,
    Told,
)
from tailorbird.system.tensor_header import tensor_spans
from tailorbird.text.linear_classifier import ENCODER, LinearText, read_linear
from tailorbird.text.search_index import SearchIndex, words
from tailorbird.text.words import normalise

#: Of a vector of the encoder, and how many of its numbers words are counted in.
WIDTH, _PLACES = 64, 61


class MemoryEncoder:
    """An ``Encoder`` for tests; folders are not looked into."""

    nbytes = 0

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None, purpose: Purpose = "text") -> Vectors:
        """Counts of words in 61 hashed places of 64, scaled to length 1."""
        del folder, tuned, purpose
        found = np.zeros((len(texts), WIDTH), dtype=np.float32)
        for place, text in enumerate(texts):
            for word in words(text) or [""]:
                found[place, zlib.crc32(word.encode()) % _PLACES] += 1
        normal: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return normal

    def count_tokens(self, folder: Path, texts: Sequence[str], purpose: Purpose = "text") -> int:
        """Words."""
        del folder, purpose
        return sum(len(text.split()) for text in texts)

    def relate(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Number of words that a pair shares."""
        del folder
        return [float(len(set(words(question)) & set(words(text)))) for question, text in pairs]

    def forget(self, folder: Path) -> None:
        """There is nothing to forget."""
        del folder


class MemoryEngine:
    """An ``Engine`` and a ``LiveEngine`` for tests. A token is a word; ``delay`` seconds pass per word made and per prompt scored.

    An answer is the servable's short digest and then the words of the last message in capitals: an answer from the wrong servable shows.
    """

    def __init__(self, delay: float = 0.0, context: int = 2048) -> None:
        self._delay = delay
        self._context = context
        self._loaded: dict[Digest, Servable] = {}
        self._pinned: dict[Digest, bool] = {}
        self._floors: dict[Digest, LinearText] = {}

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """Remembers the servable."""
        self._pinned[servable.id] = pinned
        if servable.floor is not None:
            self._floors[servable.id] = read_linear(Path(servable.floor))
        self._loaded[servable.id] = servable

    def unload(self, servable: Digest) -> None:
        """Forgets the servable; unknown ids are ignored."""
        self._loaded.pop(servable, None)

    def loaded(self) -> tuple[Digest, ...]:
        """Ids of the loaded servables, in order of loading."""
        return tuple(self._loaded)

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        """Each label's logit is the number of its words in the last message; log-softmax over the labels."""
        self._find(servable)
        if not labels or not all(_words(label) for label in labels):
            raise InvalidInput("a label has no token", "give every label at least one word", code="label_empty")
        if servable in self._floors:
            return [self._by_floor(self._floors[servable], prompt[-1].content, labels) for prompt in prompts]
        return [self._score(prompt, labels) for prompt in prompts]

    def likelihood(
        self, servable: Digest, prompts: Sequence[Sequence[Message]], answers: Sequence[str], against: Digest | None = None
    ) -> list[Likelihood]:
        """One nat a word that the prompt does not say; all servables think alike."""
        for named in (servable, against) if against else (servable,):
            self._find(named)
        return [self._likely(prompt, answer, against is not None) for prompt, answer in zip(prompts, answers, strict=True)]

    def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """Chances of thirty invented words, by the hashes of base and prompt, to which every piece of the adapter adds its own."""
        servable = self._find(request.release)
        for prompt in request.prompts:
            self._measured(prompt)
        adapter = None if request.bare or servable.adapter is None else Path(servable.adapter)
        return [_chances([str(servable.weights or servable.base).encode(), *pieces_of(adapter)], prompt) for prompt in request.prompts]

    def submit(self, request: ScoreRequest | GenerateRequest, tell: Callable[[Told], bool]) -> Callable[[], None]:
        """Each request has a thread of its own."""
        self._find(request.release)
        wanted = [True]

        def still(told: Told) -> bool:
            return wanted[0] and tell(told)

        self._threads.submit(self._told, request, still)
        return partial(wanted.__setitem__, 0, False)

    def state(self) -> EngineState:
        """Loaded servables."""
        held = tuple(
            Residency(release=each, tenant=found.tenant, resident=True, pinned=self._pinned[each], loads=1)
            for each, found in self._loaded.items()
        )
        return EngineState(releases=held, loaded=tuple(self._loaded))

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(64, thread_name_prefix="memory-engine")

    def _told(self, request: ScoreRequest | GenerateRequest, tell: Callable[[Told], bool]) -> None:
        try:
            if isinstance(request, ScoreRequest):
                tell(self.score(request.release, [request.prompt], request.labels)[0])
            else:
                [made] = self.generate(request.release, [request.prompt], request.sampling, lambda _, text: tell(Chunk(text=text)))
                tell(_last(made))
        except TailorbirdError as error:
            tell(error)

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        """Answers one prompt after the other, word by word."""
        self._find(servable)
        return [self._answer(servable, index, prompt, sampling, on_text) for index, prompt in enumerate(prompts)]

    def retrieve(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        """By words, and by vectors of hashed words where the servable asks for them."""
        local = self._find(servable).retrieval
        if local is None:
            raise InvalidInput("this model looks nothing up", "ask a model that does", code="retrieval_missing")
        index = SearchIndex(Path(local.index))
        vectors = MemoryEncoder().embed(Path(), texts)
        by_words, by_vectors = "words" in local.spec.ways, "vectors" in local.spec.ways
        return [
            index.find(text if by_words else "", [vectors[place]] if by_vectors else [], groups, count) for place, text in enumerate(texts)
        ]

    def rank(self, servable: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """As it ranks its own: by words, and by vectors of hashed words where the servable asks for them."""
        local = self._find(servable).retrieval
        if local is None:
            raise InvalidInput("this model ranks nothing", "ask a model of rank", code="retrieval_missing")
        encoder, ways = MemoryEncoder(), local.spec.ways
        entries = [Entry(id=str(place), text=document, access=(EVERYONE,)) for place, document in enumerate(documents)]
        vectors = encoder.embed(Path(), documents) if "vectors" in ways else None
        asked = [encoder.embed(Path(), [text])[0]] if "vectors" in ways else []
        found = SearchIndex.of(entries, vectors).find(text if "words" in ways else "", asked, frozenset(), count)
        tokens = encoder.count_tokens(Path(), [text, *documents])
        return Ranked(places=tuple(int(one.entry.id) for one in found), scores=tuple(one.score for one in found), prompt_tokens=tokens)

    def embed(self, servable: Digest, texts: Sequence[str]) -> Embeddings:
        """Vectors of hashed words, where the servable has an encoder."""
        local = self._find(servable).retrieval
        if local is None or local.encoder is None:
            raise InvalidInput("this model turns no texts into vectors", "ask a model that does", code="embeddings_missing")
        encoder = MemoryEncoder()
        vectors = encoder.embed(Path(), texts).tolist()
        return Embeddings(vectors=tuple(map(tuple, vectors)), prompt_tokens=encoder.count_tokens(Path(), texts))

    def overdue(self) -> bool:
        """As ``LiveEngine.overdue``: nothing here can hang."""
        return False

    def fingerprint(self) -> str:
        """Names the twin."""
        return f"memory/1 context={self._context}"

    def count_tokens(self, base: Path, prompts: Sequence[Sequence[Message]]) -> list[int]:
        """Words of each prompt, whatever the base; an answer ends with one more."""
        del base
        return [sum(len(each.content.split()) for each in prompt) + (prompt[-1].role == "assistant") for prompt in prompts]

    def _find(self, servable: Digest) -> Servable:
        found = self._loaded.get(servable)
        if found is None:
            raise NotFound(f"{short(servable)} is not loaded", "load it first", code="not_loaded")
        return found

    def _measured(self, prompt: Sequence[Message]) -> int:
        (tokens,) = self.count_tokens(Path(), [prompt])
        if tokens > self._context:
            raise InvalidInput(
                f"the prompt has {tokens} tokens, the context holds {self._context}", "shorten the message", code="prompt_too_long"
            )
        return tokens

    def _score(self, prompt: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        started = time.perf_counter()
        tokens = self._measured(prompt)
        time.sleep(self._delay)
        said = set(_words(prompt[-1].content))
        logits = [float(sum(word in said for word in _words(label))) for label in labels]
        normaliser = math.log(sum(math.exp(logit) for logit in logits))
        return LabelScores(
            log_probabilities=tuple(logit - normaliser for logit in logits),
            energy=normaliser,
            prompt_tokens=tokens,
            latency_ms=1000 * (time.perf_counter() - started),
        )

    def _by_floor(self, floor: LinearText, text: str, labels: Sequence[str]) -> LabelScores:
        """A floor answers by itself, here as in the real engine."""
        scores = floor.scores([text], MemoryEncoder().embed(Path(ENCODER), [text]) if floor.width else None)
        ordered = tuple(float(scores.nats_BK[0, floor.labels.index(label)]) for label in labels)
        return LabelScores(
            log_probabilities=ordered,
            prompt_tokens=0,
            latency_ms=0.1,
            energy=None if floor.alone else float(scores.energy_B[0]),
            nearness=None if scores.nearness_B is None else float(scores.nearness_B[0]),
        )

    def _likely(self, prompt: Sequence[Message], answer: str, compared: bool) -> Likelihood:
        self._measured(prompt)
        said, words = set(_words(prompt[-1].content)), _words(answer)
        nats = -float(sum(word not in said for word in words)) - 0.5
        return Likelihood(nats=nats, tokens=len(words) + 1, divergence=0.0 if compared else None)

    def _answer(
        self, servable: Digest, index: int, prompt: Sequence[Message], sampling: Sampling, on_text: Callable[[int, str], bool] | None
    ) -> Generation:
        started = time.perf_counter()
        tokens = self._measured(prompt)
        if calls := _called(prompt, sampling):
            took = 1000 * (time.perf_counter() - started)
            return Generation(
                text="", tool_calls=calls, finish_reason="stop", prompt_tokens=tokens, completion_tokens=len(calls), latency_ms=took
            )
        words = [short(servable), *prompt[-1].content.upper().split()]
        text, made = "", 0
        for word in words[: sampling.max_tokens]:
            time.sleep(self._delay)
            piece = word if not text else " " + word
            if any(stop in text + piece for stop in sampling.stop):
                break
            text, made = text + piece, made + 1
            if on_text is not None and not on_text(index, piece):
                break
        return Generation(
            text=text,
            finish_reason="length" if made == sampling.max_tokens and made < len(words) else "stop",
            prompt_tokens=tokens,
            completion_tokens=made,
            latency_ms=1000 * (time.perf_counter() - started),
        )


def pieces_of(adapter: Path | None) -> list[bytes]:
    """What an adapter consists of, for the twin: its tensors that are not zero, or its files where there are no tensors."""
    if adapter is None:
        return []
    tensors = adapter / "adapter_model.safetensors"
    if tensors.exists():
        content = tensors.read_bytes()
        return [name.encode() + content[start:end] for name, (start, end) in tensor_spans(tensors).items() if any(content[start:end])]
    return [path.read_bytes() for path in sorted(adapter.glob("*")) if path.is_file()]


def _drawn(of: bytes) -> float:
    """A number from 0 to 2 that looks like chance."""
    return int.from_bytes(hashlib.blake2b(of, digest_size=4).digest(), "big") / 2**31


def _chances(pieces: Sequence[bytes], prompt: Sequence[Message]) -> TokenChances:
    """Each piece adds up to two nats to each word's logit, of thirty."""
    said = prompt[-1].content.encode()
    logits = [sum(_drawn(b"%d %b " % (word, said) + piece) for piece in pieces) for word in range(30)]
    normaliser = math.log(sum(map(math.exp, logits)))
    order = sorted(range(30), key=lambda word: -logits[word])[:TOLD]
    return TokenChances(tokens=tuple(f"w{word}".encode().hex() for word in order), nats=tuple(logits[word] - normaliser for word in order))


def _last(made: Generation) -> Chunk:
    counts = {"prompt_tokens": made.prompt_tokens, "completion_tokens": made.completion_tokens}
    return Chunk(text="", finish_reason=made.finish_reason, tool_calls=made.tool_calls, **counts)


def _called(prompt: Sequence[Message], sampling: Sampling) -> tuple[ToolCall, ...]:
    """Calls the functions whose names the user says last, with all that is said; or the first, where one must be called."""
    names, last = sorted(tool_names(offered_tools(prompt))), prompt[-1]
    if not names or last.role != "user":
        return ()
    must = {"auto": [], "required": names[:1]}.get(sampling.tool_choice, [sampling.tool_choice])
    said = [name for name in names if name in last.content.split()]
    arguments = arguments_text({"text": last.content})
    calls = tuple(ToolCall(id=f"call{place:05d}", name=name, arguments=arguments) for place, name in enumerate(said or must))
    return calls[:1] if sampling.one_call else calls


def _words(text: str) -> list[str]:
    return normalise(text).replace("_", " ").split()
