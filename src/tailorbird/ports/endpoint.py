"""Client of a hosted model: conversations go in, answers come out, with what the server says of itself. Keys never leave it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol

from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Value


class HostedChunk(Value):
    """A piece of a streamed answer; the last one carries ``finish_reason`` and the counts. ``refused``: the server would not answer this
    prompt (its filter, or the model by the protocol's own word). ``estimated``: it did not say what it read and wrote, or said what cannot
    be, and the counts are bytes in place of tokens. ``model`` and ``fingerprint`` are how the server names what answers.

    ``written``: bytes that the server wrote for this piece, with those that are not shown (reasoning, of which ``text`` has nothing)."""

    text: str
    written: int = 0
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: bool = False
    estimated: bool = False
    model: str = ""
    fingerprint: str = ""


class HostedAnswer(Value):
    """One whole answer, its fields as in ``HostedChunk``. ``latency_ms`` is of the try that answered, ``again`` counts those before it."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    refused: bool = False
    estimated: bool = False
    model: str = ""
    fingerprint: str = ""
    again: int = 0


class EndpointClient(Protocol):
    """Asks one model of one endpoint, for whoever runs one event loop."""

    @property
    def lost(self) -> tuple[int, int]:
        """Tokens read and written, in bytes, by tries that gave no whole answer so far, and may have to be paid."""
        ...

    async def answer(self, prompt: Sequence[Message], sampling: Sampling) -> HostedAnswer:
        """One answer. A rate limit is waited for, and a fault of the server tried again, a few times.

        Raises Unavailable (``endpoint_unavailable``: it is away; AnswerLost where it is too slow, or broke the answer off; ``silent`` where
        it said nothing, though it was to be reached;
        ``endpoint_refused``: it does not take the key; ``endpoint_key_missing``), Exhausted (``endpoint_busy``: its rate limit),
        InvalidInput (``endpoint_model_missing``, ``prompt_too_long``, ``endpoint_request``), Forbidden (``address_private``).
        """
        ...

    def stream(self, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[HostedChunk, None]:
        """One answer, piece by piece, tried once; closing the iterator ends it. Raises as ``answer``."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
