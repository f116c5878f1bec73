"""The engine that runs models: in process (``Engine``, ``LiveEngine``), and behind a wire (``EngineDriver``)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import TypeAdapter

from tailorbird.domain.deployment import Servable, Stage
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.evidence import TokenChances
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling, ToolCall
from tailorbird.domain.value import Digest, Value


class LabelScores(Value):
    """One item's labels with their log-probabilities (nats) as complete answers, normalised over the labels, in the order asked.

    ``latency_ms`` is the wall time from admission to result, ``prompt_tokens`` the tokens of the rendered prompt, ``cached_tokens`` those
    of them whose computation was remembered. ``energy`` is the logarithm of the sum of the exponentiated scores before they were
    normalised, ``nearness`` the cosine of the text's vector and that of the nearest training row (``text/linear_classifier.py``): None
    where the model, or the server behind it, does not tell.
    """

    log_probabilities: tuple[float, ...]
    prompt_tokens: int
    latency_ms: float
    cached_tokens: int = 0
    energy: float | None = None
    nearness: float | None = None


class Likelihood(Value):
    """How probable an answer is: the sum of its tokens' log-probabilities in nats (end of turn included), and how many tokens those are.

    ``divergence`` is KL(other ‖ this) of the next-token distributions in nats, averaged over the answer's tokens, where another servable
    was named.
    """

    nats: float
    tokens: int
    divergence: float | None = None


class Generation(Value):
    """One generated answer: its text, and the functions that it calls."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float


class TokenChance(Value):
    """A token, its bytes and its log-probability (nats)."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


class TokenLogprob(TokenChance):
    """A token that was chosen, and the likeliest ones in its place."""

    top: tuple[TokenChance, ...] = ()


class Chunk(Value):
    """A piece of a streamed answer. The last one carries ``finish_reason``, the token counts and the calls of functions; of the
    ``completion_tokens``, the first ``reasoning_tokens`` are a block of reasoning with its marks."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


class Embeddings(Value):
    """Texts as vectors of length 1, in the order asked, and how many tokens were read."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int


class Ranked(Value):
    """Texts in the order in which they answer a question, best first: the place of each among those that were given, and its score, which
    is comparable within one answer alone. ``prompt_tokens`` counts what encoders read, 0 where they are ranked by words alone."""

    places: tuple[int, ...]
    scores: tuple[float, ...]
    prompt_tokens: int


class Retriever(Protocol):
    """Looks up what servables show beside a text, or give as the answer."""

    def retrieve(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        """At most ``count`` entries for each text, best first, of those that somebody in ``groups`` may read.

        Raises NotFound (servable not loaded), InvalidInput (``retrieval_missing``: it looks nothing up).
        """
        ...

    def rank(self, servable: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """The best ``count`` of ``documents``, which are the caller's, in the way in which the servable ranks its own.

        Raises NotFound (servable not loaded), InvalidInput (``retrieval_missing``: it looks nothing up).
        """
        ...

    def embed(self, servable: Digest, texts: Sequence[str]) -> Embeddings:
        """``texts`` as the servable reads a query: by the encoder that was tuned for it, where there is one.

        Raises NotFound (servable not loaded), InvalidInput (``embeddings_missing``: it has no encoder).
        """
        ...


A = TypeVar("A")


class Question(Value, Generic[A]):
    """Asks a release for an ``A``, in one piece."""

    release: Digest


class ProbeRequest(Question[list[TokenChances] | None]):
    """Asks for the likeliest first tokens of the answers to ``prompts``, none of which is remembered; ``bare``: by the base model of the
    release, without its adapter (None where that cannot be asked beside the release)."""

    prompts: tuple[tuple[Message, ...], ...]
    bare: bool = False


class Probed(Protocol):
    """Tells how its answers begin, as proofs of effect ask."""

    def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """The ``TOLD`` likeliest first tokens of the answer to each prompt, all asked at a time; the answer begins at once, also where the
        release reasons. Raises NotFound (release not loaded), InvalidInput (prompt too long)."""
        ...


class Engine(Retriever, Probed, Protocol):
    """Runs models in this process, for whoever waits for the result. Not thread-safe unless the implementation says so."""

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
        """Tokens of each rendered prompt with the tokenizer of the base model in folder ``base``; where the assistant speaks last, those of
        what it says alone, as an answer with its end."""
        ...


class LoadRequest(Value):
    """Asks an engine process for a release. The engine finds, verifies and loads it itself.

    ``purpose``: the stage of the alias that asks for it; for production it must be approved.
    ``pinned``: it stays in memory whatever the budget, until it is unloaded or loaded again without.
    """

    tenant: str
    release: Digest
    purpose: Stage
    pinned: bool = False


class ScoreRequest(Question[LabelScores]):
    """Asks an engine process for label scores of one prompt. Memory of its beginning is shared with prompts of the same ``groups`` alone:
    those whose documents may stand in it."""

    prompt: tuple[Message, ...]
    labels: tuple[str, ...]
    groups: frozenset[str] = frozenset()


class GenerateRequest(Question[AsyncGenerator[Chunk, None]]):
    """Asks an engine process for one answer, piece by piece, the last with the counts; closing the iterator cancels it. ``groups`` as in
    ``ScoreRequest``."""

    prompt: tuple[Message, ...]
    sampling: Sampling
    groups: frozenset[str] = frozenset()


class RetrieveRequest(Question[list[RetrievedEntry]]):
    """Asks an engine process for what a release looks up for one text."""

    text: str
    groups: frozenset[str]
    count: int


class RankRequest(Question[Ranked]):
    """Asks an engine process to rank the caller's documents for one text."""

    text: str
    documents: tuple[str, ...]
    count: int


class EmbedRequest(Question[Embeddings]):
    """Asks an engine process for texts as vectors."""

    texts: tuple[str, ...]


#: The kinds of questions by the paths at which engine processes are asked them, and what is answered.
QUESTIONS: dict[str, tuple[type[Question[Any]], TypeAdapter[Any]]] = {
    "/score": (ScoreRequest, TypeAdapter(LabelScores)),
    "/retrieve": (RetrieveRequest, TypeAdapter(list[RetrievedEntry])),
    "/rank": (RankRequest, TypeAdapter(Ranked)),
    "/embed": (EmbedRequest, TypeAdapter(Embeddings)),
    "/probe": (ProbeRequest, TypeAdapter(list[TokenChances])),
}


class Residency(Value):
    """One loaded release and its place in memory: ``resident`` when its own weights are there now.

    ``loads`` and ``evictions`` count how often they came and went, ``load_seconds`` what the comings took, ``requests`` who asked for it.
    """

    release: Digest
    tenant: str
    resident: bool
    pinned: bool
    loads: int = 0
    evictions: int = 0
    requests: int = 0
    load_seconds: float = 0.0


class EngineState(Value):
    """What an engine is doing, and which releases it has ``loaded``. Memory in bytes, of weights; ``kv_tokens`` is room for keys and
    values, in tokens; the prefix counts are prompt tokens that were looked up and found."""

    loaded: tuple[Digest, ...] = ()
    running: int = 0
    waiting: int = 0
    kv_tokens: int = 0
    kv_tokens_used: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    memory_used: int = 0
    memory_budget: int = 0
    releases: tuple[Residency, ...] = ()


#: What an engine tells of a request: pieces or the result, or why there is none.
Told = Chunk | LabelScores | TailorbirdError


class LiveEngine(Retriever, Probed, Protocol):
    """Runs models in this process for many callers at a time, none of whom waits for another. Thread-safe."""

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """As ``Engine.load``, for as long as memory allows: what nobody uses may be put out, and comes back with its next request."""
        ...

    def unload(self, servable: Digest) -> None:
        """As ``Engine.unload``."""
        ...

    def loaded(self) -> tuple[Digest, ...]:
        """As ``Engine.loaded``."""
        ...

    def submit(self, request: ScoreRequest | GenerateRequest, tell: Callable[[Told], bool]) -> Callable[[], None]:
        """Begins a request and returns at once, with a way to cancel it. ``tell`` is called from another thread, with every piece and
        at last with the result or an error; False from it cancels too.

        Raises as ``Engine.score``; Exhausted when too many wait.
        """
        ...

    def state(self) -> EngineState:
        """What it is doing now."""
        ...

    def overdue(self) -> bool:
        """True when it no longer gets on: a step takes far longer than any should. Waits for nothing."""
        ...

    def close(self) -> None:
        """Ends all requests, with an error, and frees everything."""
        ...


class LocalEngine(LiveEngine, Engine, Protocol):
    """Both: the same steps for whoever waits and for whoever listens, so that what was measured is what is served."""


class EngineDriver(Protocol):
    """Speaks to one engine process, whoever made it. Every call raises Unavailable when it cannot be reached."""

    async def load(self, request: LoadRequest) -> None:
        """Returns once the release is ready. Raises what the engine refuses with (Corrupt, Forbidden, NotFound)."""
        ...

    async def unload(self, release: Digest) -> None:
        """Frees a release after its calls have ended."""
        ...

    async def ask(self, request: Question[A]) -> A:
        """The answer to one question. Raises NotFound (not loaded), InvalidInput (what the release or the engine does not answer); where
        the answer comes piece by piece, the pieces raise it."""
        ...

    async def status(self) -> EngineState:
        """What the engine is doing, and holds. Raises Unavailable too where it does not get on with its work."""
        ...

    async def close(self) -> None:
        """Gives up the connections; the engine goes on."""
        ...
