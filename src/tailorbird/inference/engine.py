"""The engine: servables in, scores and answers out.

In: servables and conversations. Out: log-probabilities of labels, generated text. Must not know: tenants, releases, HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.retrieval import Found
from tailorbird.domain.value import Digest
from tailorbird.inference.batching import batches
from tailorbird.inference.chat import ChatFormat
from tailorbird.inference.generation import Answer, fill_answers
from tailorbird.inference.likelihood import answer_likelihoods
from tailorbird.inference.memory import Prefix
from tailorbird.inference.precision import Precision, fingerprint, place
from tailorbird.inference.prefixes import PrefixStore, shared_length
from tailorbird.inference.registry import Loaded, Registry
from tailorbird.inference.retrieval import Lookups, TorchEncoder
from tailorbird.inference.sampling import Drawer
from tailorbird.inference.scoring import score_labels
from tailorbird.inference.textstream import TextStream
from tailorbird.inference.trie import LabelTrie, build_trie
from tailorbird.ports.engine import Generation, LabelScores, Likelihood

#: Tokens (prompt and trie, padding included) in one scoring pass: enough to keep the processor busy, few enough for its cache.
_SCORE_TOKENS = 2048
#: Tokens (prompt and answer) that a generating batch may come to hold in memory.
_GENERATE_TOKENS = 32_768

Conversation = Sequence[Message]


class TorchEngine:
    """An ``Engine`` on torch. Thread-safe: calls take turns on the processor; loading and unloading go on beside them."""

    def __init__(self, precision: Precision = "auto") -> None:
        self._placement = place(precision)
        self._prefixes = PrefixStore()
        self._registry = Registry(self._placement, freed=self._prefixes.forget)
        self._turn = threading.Lock()
        self._lookups = Lookups(TorchEncoder())

    def load(self, servable: Servable) -> None:
        """As ``Engine.load``. What ranks documents needs no model that answers."""
        self._lookups.load(servable)
        if servable.task is not TaskKind.RANK:
            self._registry.load(servable)

    def unload(self, servable: Digest) -> None:
        """As ``Engine.unload``."""
        self._lookups.unload(servable)
        self._registry.unload(servable)

    def loaded(self) -> tuple[Digest, ...]:
        """As ``Engine.loaded``."""
        return tuple(dict.fromkeys((*self._registry.ids(), *self._lookups.ids())))

    def retrieve(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[Found]]:
        """As ``Engine.retrieve``."""
        if servable not in self.loaded():
            raise NotFound("this servable is not loaded", "load it before asking it", code="servable_not_loaded")
        with self._turn:
            return self._lookups.find(servable, texts, groups, count)

    def fingerprint(self) -> str:
        """As ``Engine.fingerprint``."""
        return fingerprint(self._placement)

    def count_tokens(self, base: Path, prompts: Sequence[Conversation]) -> list[int]:
        """As ``Engine.count_tokens``."""
        return [len(tokens) for tokens in self._registry.chat(str(base)).prompts(prompts)]

    def score(self, servable: Digest, prompts: Sequence[Conversation], labels: Sequence[str]) -> list[LabelScores]:
        """As ``Engine.score``. Latency counts from the start of the batch that held the item."""
        _check_conversations(prompts)
        with self._registry.use(servable) as loaded:
            trie = _label_trie(loaded.chat, labels)
            rows = loaded.chat.prompts(prompts)
            _check_length(rows, trie.depth, loaded.model.context)
            scores: list[LabelScores | None] = [None] * len(rows)
            with self._turn, torch.inference_mode():
                prefix = self._shared_prefix(loaded, prompts, rows)
                rests = [row[prefix.length :] for row in rows]
                for batch in batches([len(rest) for rest in rests], len(trie.tokens), _SCORE_TOKENS):
                    start = time.perf_counter()
                    found = score_labels(loaded.model, prefix, [rests[i] for i in batch], trie).tolist()
                    latency = (time.perf_counter() - start) * 1000
                    for i, values in zip(batch, found, strict=True):
                        scores[i] = LabelScores(log_probabilities=tuple(values), prompt_tokens=len(rows[i]), latency_ms=latency)
        return [score for score in scores if score is not None]

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Conversation],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        """As ``Engine.generate``. Latency counts from the start of the batch that held the answer."""
        if sampling.max_tokens < 1:
            raise InvalidInput("max_tokens must be at least 1", "ask for one token or more", code="max_tokens")
        _check_conversations(prompts)
        with self._registry.use(servable) as loaded:
            rows = loaded.chat.prompts(prompts)
            _check_length(rows, 1, loaded.model.context)
            answers = [_answer(loaded, i, len(row), sampling, on_text) for i, row in enumerate(rows)]
            latencies = [0.0] * len(rows)
            with self._turn, torch.inference_mode():
                prefix = self._shared_prefix(loaded, prompts, rows)
                drawer = Drawer(sampling, range(len(rows)))
                for batch in batches([len(row) for row in rows], sampling.max_tokens, _GENERATE_TOKENS):
                    start = time.perf_counter()
                    fill_answers(loaded.model, prefix, [rows[i][prefix.length :] for i in batch], [answers[i] for i in batch], drawer)
                    for i in batch:
                        latencies[i] = (time.perf_counter() - start) * 1000
        return [_generation(answer, len(rows[i]), latencies[i]) for i, answer in enumerate(answers)]

    def likelihood(
        self, servable: Digest, prompts: Sequence[Conversation], answers: Sequence[str], against: Digest | None = None
    ) -> list[Likelihood]:
        """As ``Engine.likelihood``."""
        _check_conversations(prompts)
        with ExitStack() as held:
            loaded = held.enter_context(self._registry.use(servable))
            other = held.enter_context(self._registry.use(against)).model if against else None
            rows = list(zip(loaded.chat.prompts(prompts), loaded.chat.answers(answers), strict=True))
            _check_length([prompt for prompt, _ in rows], max((len(answer) for _, answer in rows), default=0), loaded.model.context)
            with self._turn, torch.inference_mode():
                return answer_likelihoods(loaded.model, rows, other)

    def _shared_prefix(self, loaded: Loaded, prompts: Sequence[Conversation], rows: list[list[int]]) -> Prefix:
        """What all prompts of the call begin with, up to the last message: that much the next call will probably begin with too."""
        if not rows:
            return self._prefixes.read(loaded.id, loaded.model, [])
        *earlier, last = prompts[0]
        emptied = loaded.chat.prompts([[*earlier, last.model_copy(update={"content": ""})]])
        return self._prefixes.read(loaded.id, loaded.model, rows[0][: shared_length([*rows, *emptied])])


def _label_trie(chat: ChatFormat, labels: Sequence[str]) -> LabelTrie:
    """The trie of ``labels`` as complete answers. Raises InvalidInput when they cannot be told apart."""
    if not labels:
        raise InvalidInput("there are no labels to score", "give at least one label", code="labels_empty")
    answers = chat.answers(labels)
    if any(len(answer) < 2 for answer in answers):
        raise InvalidInput("a label has no tokens", "give every label a name that is not empty", code="label_empty")
    if len({tuple(answer) for answer in answers}) < len(labels):
        raise InvalidInput("two labels are the same", "name every label once", code="label_duplicate")
    return build_trie(answers)


def _check_conversations(prompts: Sequence[Conversation]) -> None:
    if not all(prompts):
        raise InvalidInput("a conversation has no messages", "send at least one message", code="prompt_empty")


def _check_length(rows: Sequence[Sequence[int]], answer: int, context: int) -> None:
    longest = max((len(row) for row in rows), default=0)
    if longest + answer > context:
        raise InvalidInput(
            f"a prompt of {longest} tokens leaves no room for an answer of {answer} in the model's context of {context}",
            "shorten the text, the instruction or the demonstrations",
            code="prompt_too_long",
        )


def _answer(loaded: Loaded, row: int, prompt: int, sampling: Sampling, on_text: Callable[[int, str], bool] | None) -> Answer:
    room = min(sampling.max_tokens, loaded.model.context - prompt)
    stream = TextStream(loaded.chat.tokenizer, sampling.stop)
    return Answer(row, room, stream, loaded.chat.stops, lambda text: on_text is None or on_text(row, text))


def _generation(answer: Answer, prompt: int, latency: float) -> Generation:
    return Generation(
        text=answer.text,
        finish_reason=answer.reason or "length",
        prompt_tokens=prompt,
        completion_tokens=len(answer.tokens),
        latency_ms=latency,
    )
