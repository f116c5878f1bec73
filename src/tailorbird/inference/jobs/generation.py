"""An answer, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

from tailorbird.domain.errors import TailorbirdError
from tailorbird.inference.jobs.weight_lease import WeightLease
from tailorbird.inference.scheduling import Sequence
from tailorbird.inference.text.chat import ChatFormat
from tailorbird.inference.text.sampling import RowSampler, SampledToken
from tailorbird.inference.text.text_stream import TextStream
from tailorbird.ports.engine import Chunk, TokenChance, TokenLogprob

#: Is told of every piece; False: nobody wants more.
TellChunk = Callable[[Chunk], bool]


class GenerationFormat(NamedTuple):
    """How an answer is written: its format, where it ends, how it is drawn."""

    chat: ChatFormat
    drawer: RowSampler
    room: int


class GenerationJob:
    """One answer in the making."""

    tree = None

    def __init__(self, sequence: Sequence, writing: GenerationFormat, holding: WeightLease, tell: TellChunk) -> None:
        self.sequence = sequence
        self.drawer: RowSampler | None = writing.drawer
        self._chat, self._room = writing.chat, writing.room
        self._logprobs = writing.drawer.sampling.logprobs is not None
        self._stream = TextStream(writing.chat.tokenizer, writing.drawer.sampling.stop)
        self._holding = holding
        self._tell = tell
        self._unsaid: list[TokenLogprob] = []
        self._made = 0

    @property
    def live(self) -> bool:
        """True until it has ended."""
        return self._holding.live

    @property
    def adapter(self) -> object:
        """What it is computed with."""
        return self._holding.adapter

    def choose(self, choice: SampledToken) -> None:
        """Takes a token, and ends the answer where it must end."""
        self._made += 1
        if self._logprobs:
            self._unsaid.append(self._explained(choice))
        if choice.token in self._chat.stops:
            return self._end(self._stream.finish(), "stop")
        text = self._stream.feed(choice.token)
        if self._stream.stopped:
            return self._end(text, "stop")
        if self._made >= self._room:
            return self._end(text + self._stream.finish(), "length")
        self.sequence.tokens.append(choice.token)
        if text and not self._tell(Chunk(text=text, logprobs=self._said())):
            self._end("", "stop")
        return None

    def weigh(self, logits: Callable[[torch.Tensor], torch.Tensor], hidden_RE: torch.Tensor, first: int) -> None:
        """An answer is chosen, not weighed."""
        raise NotImplementedError

    def fail(self, error: TailorbirdError) -> None:
        """Ends the answer with an error."""
        self._holding.fail(error)

    def _end(self, text: str, reason: Literal["stop", "length"]) -> None:
        # Made before the job is over: if that fails, somebody can still be told.
        last = self._last(text, reason)
        if self._holding.end():
            self._tell(last)

    def _last(self, text: str, reason: Literal["stop", "length"]) -> Chunk:
        return Chunk(
            text=text,
            finish_reason=reason,
            prompt_tokens=self.sequence.prompt,
            completion_tokens=self._made,
            cached_tokens=self.sequence.cached,
            logprobs=self._said(),
        )

    def _said(self) -> tuple[TokenLogprob, ...]:
        said, self._unsaid = tuple(self._unsaid), []
        return said

    def _explained(self, choice: SampledToken) -> TokenLogprob:
        top = tuple(self._chance(token, nats) for token, nats in choice.top)
        return TokenLogprob(**self._chance(choice.token, choice.logprob or 0.0).model_dump(), top=top)

    def _chance(self, token: int, nats: float) -> TokenChance:
        raw = self._chat.bytes_of(token)
        return TokenChance(token=raw.decode("utf-8", errors="replace"), bytes=tuple(raw), logprob=nats)
