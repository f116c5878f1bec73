"""In-memory client of a hosted model: a function answers, and everything that was asked is remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from tailorbird.domain.deployment import size_of
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.ports.endpoint import HostedAnswer, HostedChunk

#: What makes the answer to a prompt, or the error that stands in its place; None where a filter refuses the prompt, which names no model.
Answering = Callable[[Sequence[Message]], str | TailorbirdError | None]


class MemoryEndpoint:
    """Implements ``EndpointClient``. A token is a word. ``model`` and ``fingerprint`` are what it says of itself, and may be set."""

    def __init__(self, answering: Answering, model: str = "", fingerprint: str = "") -> None:
        self.answering = answering
        self.model = model
        self.fingerprint = fingerprint
        self.asked: list[tuple[Message, ...]] = []
        self.closed = 0
        self.lost = (0, 0)

    async def answer(self, prompt: Sequence[Message], sampling: Sampling) -> HostedAnswer:
        """The answer of the function. Raises the error that it gives."""
        text = self._text(prompt)
        if text is None:
            return HostedAnswer(text="", finish_reason="stop", prompt_tokens=0, completion_tokens=0, latency_ms=1.0, refused=True)
        words = text.split()[: sampling.max_tokens]
        return HostedAnswer(
            text=" ".join(words),
            finish_reason="stop",
            prompt_tokens=sum(len(message.content.split()) for message in prompt),
            completion_tokens=len(words),
            latency_ms=1.0,
            model=self.model,
            fingerprint=self.fingerprint,
        )

    async def stream(self, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[HostedChunk, None]:
        """The same, word by word."""
        whole = await self.answer(prompt, sampling)
        for number, word in enumerate(whole.text.split()):
            text = f" {word}" if number else word
            yield HostedChunk(text=text, written=size_of(text), model=whole.model, fingerprint=whole.fingerprint)
        fields = {name: getattr(whole, name) for name in HostedChunk.model_fields if name not in ("text", "written")}
        yield HostedChunk(text="", **fields)

    async def close(self) -> None:
        """Counts."""
        self.closed += 1

    def _text(self, prompt: Sequence[Message]) -> str | None:
        self.asked.append(tuple(prompt))
        made = self.answering(prompt)
        if isinstance(made, TailorbirdError):
            raise made
        return made
