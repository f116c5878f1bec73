"""The engine that runs models: in process (``Engine``), and behind a wire (``EngineDriver``)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from tailorbird.domain.deployment import Servable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.retrieval import Found
from tailorbird.domain.value import Digest, Value


class LabelScores(Value):
    """One item's labels with their log-probabilities (nats) as complete answers, normalised over the labels, in the order asked.

    ``latency_ms`` is the wall time from admission to result of the batch that held the item, ``prompt_tokens`` the
    tokens of the rendered prompt.
    """

    log_probabilities: tuple[float, ...]
    prompt_tokens: int
    latency_ms: float


class Likelihood(Value):
    """How probable an answer is: the sum of its tokens' log-probabilities in nats (end of turn included), and how many tokens those are.

    ``divergence`` is KL(other ‖ this) of the next-token distributions in nats, averaged over the answer's tokens, where another servable
    was named.
    """

    nats: float
    tokens: int
    divergence: float | None = None


class Generation(Value):
    """One generated answer."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float


class Chunk(Value):
    """A piece of a streamed answer. The last one carries ``finish_reason`` and the token counts."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Retriever(Protocol):
    """Looks up what servables show beside a text, or give as the answer."""

    def retrieve(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[Found]]:
        """At most ``count`` entries for each text, best first, of those that somebody in ``groups`` may read.

        Raises NotFound (servable not loaded), InvalidInput (``retrieval_missing``: it looks nothing up).
        """
        ...


class Engine(Retriever, Protocol):
    """Runs models in this process. Not thread-safe unless the implementation says so."""

    def load(self, servable: Servable) -> None:
        """Makes a servable ready; loading a loaded one does nothing. Raises ModelInvalid."""
        ...

    def unload(self, servable: Digest) -> None:
        """Frees a servable once no call uses it; unknown ids are ignored."""
        ...

    def loaded(self) -> tuple[Digest, ...]:
        """Ids of the loaded servables."""
        ...

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        """Log-probability of each label as the complete assistant answer (end of turn included) to each prompt.

        Raises NotFound (servable not loaded), InvalidInput (prompt longer than the context, label without tokens).
        """
        ...

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        """One answer per prompt. ``on_text(index, new_text)`` sees text as it comes; returning False ends that answer."""
        ...

    def likelihood(
        self, servable: Digest, prompts: Sequence[Sequence[Message]], answers: Sequence[str], against: Digest | None = None
    ) -> list[Likelihood]:
        """How probable ``answers[i]`` is as the complete answer to ``prompts[i]``, and how far that of ``against`` lies from it.

        Raises as ``score``.
        """
        ...

    def fingerprint(self) -> str:
        """Names the engine and what could change its numbers: library versions, precision, device."""
        ...

    def count_tokens(self, base: Path, prompts: Sequence[Sequence[Message]]) -> list[int]:
        """Tokens of each rendered prompt with the tokenizer of the base model in folder ``base``."""
        ...


class LoadRequest(Value):
    """Asks an engine process for a release. The engine finds, verifies and loads it itself."""

    tenant: str
    release: Digest
    purpose: Literal["staging", "production"]


class ScoreRequest(Value):
    """Asks an engine process for label scores of one prompt."""

    release: Digest
    prompt: tuple[Message, ...]
    labels: tuple[str, ...]


class GenerateRequest(Value):
    """Asks an engine process for one answer, streamed."""

    release: Digest
    prompt: tuple[Message, ...]
    sampling: Sampling


class RetrieveRequest(Value):
    """Asks an engine process for what a release looks up for one text."""

    release: Digest
    text: str
    groups: frozenset[str]
    count: int


class EngineDriver(Protocol):
    """Speaks to one engine process. Every call raises Unavailable when it cannot be reached."""

    async def load(self, request: LoadRequest) -> None:
        """Returns once the release is ready. Raises what the engine refuses with (Corrupt, Forbidden, NotFound)."""
        ...

    async def unload(self, release: Digest) -> None:
        """Frees a release after its calls have ended."""
        ...

    async def loaded(self) -> tuple[Digest, ...]:
        """Ids of the loaded releases."""
        ...

    async def score(self, release: Digest, prompt: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """As ``Engine.score`` for one prompt."""
        ...

    def stream(self, release: Digest, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """As ``Engine.generate`` for one prompt, piece by piece; closing the iterator cancels it."""
        ...

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[Found]:
        """As ``Engine.retrieve`` for one text."""
        ...

    async def ready(self) -> bool:
        """True when the engine answers."""
        ...

    async def close(self) -> None:
        """Gives up the connections; the engine goes on."""
        ...
