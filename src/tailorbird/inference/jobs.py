"""Jobs of the engine: generation token by token, label scoring on a token trie, likelihood of a text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch

from tailorbird.chat.tokenizer import ChatTokenizer, TokenBytes
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.evidence import TOLD, TokenChances
from tailorbird.domain.prompt import REASONING_TOKENS
from tailorbird.inference.registry import Loaded
from tailorbird.inference.scheduling import TokenSequence
from tailorbird.inference.text.decoding import ReasoningFilter, RowSampler, SampledToken, TextStream, ToolCallFilter, not_finite
from tailorbird.inference.text.label_tree import LabelTrie
from tailorbird.ports.engine import Chunk, Likelihood, TokenChance, TokenLogprob

Logits = Callable[[torch.Tensor], torch.Tensor]


class WeightLease:
    """Lease on a servable's weights until the job ends, however it ends. ``over`` is called once, then; ``failed`` is told why."""

    def __init__(
        self, loaded: Loaded, over: Callable[[], None], failed: Callable[[TailorbirdError], object], *, bare: bool = False
    ) -> None:
        self._loaded, self._bare = loaded, bare
        self._over = over
        self._failed = failed
        self._ending = threading.Lock()
        self.live = True

    @property
    def adapter(self) -> Any:
        """Adapter of the job; None: bare weights."""
        return None if self._bare else self._loaded.adapter

    def end(self) -> bool:
        """The job is over; True for the first who says so."""
        with self._ending:
            first, self.live = self.live, False
        if first:
            self._over()
        return first

    def fail(self, error: TailorbirdError) -> None:
        """The job is over, for a reason to tell."""
        if self.end():
            self._failed(error)


class EngineJob:
    """Job of a sequence, which lives as long as its lease. ``tree`` is a label trie below the last token; ``drawer`` samples its next
    tokens (None: they are scored)."""

    tree: LabelTrie | None = None
    drawer: RowSampler | None = None

    def __init__(self, sequence: TokenSequence, lease: WeightLease) -> None:
        self.sequence, self.lease = sequence, lease

    def choose(self, choice: SampledToken) -> None:
        """Takes the next token. May end the job."""
        raise NotImplementedError

    def weigh(self, logits: Logits, hidden_RE: torch.Tensor, first: int) -> None:
        """Takes the hidden states of its wanted tokens, the first of which has index ``first``. May end the job."""
        raise NotImplementedError


#: Tokens between two pieces of an answer that is read as a whole: each piece takes from what is computed on the machine, and whoever leaves
#: is charged what was told.
_PIECE = 8
#: Is told of every piece; False: nobody wants more.
TellChunk = Callable[[Chunk], bool]


class GenerationFormat(NamedTuple):
    """Format of an answer: constraint, stop strings, sampling, the functions on offer (``tools``)."""

    chat: ChatTokenizer
    drawer: RowSampler
    room: int
    tools: str = ""


class GenerationJob(EngineJob):
    """One answer in the making."""

    def __init__(self, sequence: TokenSequence, writing: GenerationFormat, holding: WeightLease, tell: TellChunk) -> None:
        super().__init__(sequence, holding)
        self.drawer = writing.drawer
        self._chat, self._room, self._wanted = writing.chat, writing.room, writing.drawer.sampling.max_tokens
        self._logprobs = writing.drawer.sampling.logprobs is not None
        self._whole = writing.drawer.sampling.whole
        marks = writing.chat.tools.marks if writing.tools else writing.chat.marks
        if marks and writing.drawer.constraint is not None:
            marks = marks.begun()
        reasoning = ReasoningFilter(writing.chat.tokenizer, marks) if marks else None
        # What takes calls out of an answer, where functions are on offer and the template's calls can be told from the text.
        parser = writing.chat.tools.parser(writing.tools) if writing.tools else None
        self._stream = TextStream(
            writing.chat.tokenizer,
            writing.drawer.sampling.stop,
            reasoning,
            (None if parser is None else ToolCallFilter(parser, writing.chat.tools.call_marks, one=writing.drawer.sampling.one_call)),
        )
        writing.drawer.waits = self._stream.waits
        self._tell = tell
        self._untold = ""
        self._unsaid: list[TokenLogprob] = []
        self._made = self._reasoned = 0

    def choose(self, choice: SampledToken) -> None:
        """Takes a token, and ends the answer where it must end."""
        self._made += 1
        if self._logprobs:
            self._unsaid.append(self._explained(choice))
        if choice.token in self._chat.stops:
            return self._end(self._stream.finish(), "stop")
        # The text of the answer that ``token`` gives; of reasoning nothing is said.
        waited = self._stream.waits
        text = self._stream.feed(choice.token)
        if waited and self._stream.reasoned:
            self._unsaid.clear()
            self._reasoned = self._made
        if waited and self.drawer is not None:
            self.drawer.waits = self._stream.waits
        self._untold += text
        if self._stream.stopped:
            return self._end("", "stop")
        if self._is_full():
            return self._end(self._stream.finish(), "length")
        self.sequence.tokens.append(choice.token)
        due = (self._made - 1) % _PIECE == 0 if self._whole else self._untold != ""
        if due and not self._tell(self._piece()):
            self._end("", "stop")
        return None

    def _piece(self) -> Chunk:
        """What was not told yet, perhaps nothing; of an answer in few pieces also how many tokens it has by now, of reasoning or not."""
        text, self._untold = self._untold, ""
        return Chunk(text=text, logprobs=self._said() if text else (), completion_tokens=self._made if self._whole else 0)

    def _is_full(self) -> bool:
        """True where there is no room for another token, of reasoning or of the answer."""
        if self._made >= self._room:
            return True
        most = REASONING_TOKENS if self._stream.waits else self._wanted + self._reasoned
        return self._made >= most

    def _end(self, text: str, reason: Literal["stop", "length"]) -> None:
        # Made before the job is over: if that fails, somebody can still be told.
        last = self._last(text, reason)
        if self.lease.end():
            self._tell(last)

    def _last(self, text: str, reason: Literal["stop", "length"]) -> Chunk:
        return Chunk(
            text=self._untold + text,
            finish_reason=reason,
            prompt_tokens=self.sequence.prompt,
            completion_tokens=self._made,
            cached_tokens=self.sequence.cached,
            reasoning_tokens=self._reasoned,
            logprobs=self._said(),
            tool_calls=self._stream.tool_calls,
        )

    def _said(self) -> tuple[TokenLogprob, ...]:
        said, self._unsaid = tuple(self._unsaid), []
        return said

    def _explained(self, choice: SampledToken) -> TokenLogprob:
        top = tuple(self._chance(token, nats) for token, nats in choice.top)
        return TokenLogprob(**self._chance(choice.token, choice.logprob or 0.0).model_dump(), top=top)

    def _chance(self, token: int, nats: float) -> TokenChance:
        raw = self._stream.bytes_of(token)
        return TokenChance(token=raw.decode("utf-8", errors="replace"), bytes=tuple(raw), logprob=nats)


#: Rows of logits (one vocabulary each) held at once: few enough that they stay in the processor's cache.
_LOGIT_ROWS = 64


class LabelScoring(EngineJob):
    """Every label of a tree. ``tell`` is told their log-probabilities, normalised over the labels, and by how much (nats)."""

    def __init__(
        self, sequence: TokenSequence, holding: WeightLease, tree: LabelTrie, tell: Callable[[tuple[float, ...], float], object]
    ) -> None:
        super().__init__(sequence, holding)
        self.tree = tree
        self._edges = tree
        self._tell = tell

    def weigh(self, logits: Logits, hidden_RE: torch.Tensor, first: int) -> None:
        """The sources of the tree, the prompt's last token first."""
        del first
        # Log-probability (nats, fp32) of each token at its source. Sources ascend.
        at, wanted = (
            torch.tensor(self._edges.edge_sources, device=hidden_RE.device),
            torch.tensor(self._edges.edge_tokens, device=hidden_RE.device),
        )
        parts = []
        for start in range(0, len(hidden_RE), _LOGIT_ROWS):
            logits_RV = logits(hidden_RE[start : start + _LOGIT_ROWS])
            here = (at >= start) & (at < start + len(logits_RV))
            rows = at[here] - start
            parts.append(logits_RV[rows, wanted[here]] - logits_RV.logsumexp(dim=1)[rows])
        edges = torch.cat(parts)
        # One more edge, worth nothing, fills up the shorter paths.
        padded = torch.cat([edges, edges.new_zeros(1)])
        nats_L = padded[self._edges.path_LE].sum(dim=1)
        found = torch.log_softmax(nats_L, dim=0)
        if not found.isfinite().all():
            raise not_finite()
        if self.lease.end():
            self._tell(tuple(found.tolist()), float(nats_L.logsumexp(dim=0)))


class TextScoring(EngineJob):
    """One text at the end of the sequence. ``tell`` is told the hidden states (RE) from which each of its tokens is predicted."""

    def __init__(self, sequence: TokenSequence, holding: WeightLease, tell: Callable[[torch.Tensor], object]) -> None:
        super().__init__(sequence, holding)
        self._parts: list[torch.Tensor] = []
        self._tell = tell

    def weigh(self, logits: Logits, hidden_RE: torch.Tensor, first: int) -> None:
        """A run of the text's tokens; the last run ends it."""
        del logits
        self._parts.append(hidden_RE)
        if first + len(hidden_RE) == len(self.sequence.tokens) and self.lease.end():
            self._tell(torch.cat(self._parts))


#: Hidden states (RE) and what makes logits (RV) of them.
Side = tuple[torch.Tensor, Logits]


def likelihood_of(tokens: Sequence[int], said: Side, other: Side | None) -> Likelihood:
    """Likelihood of ``tokens`` under ``said``; ``divergence`` is KL(other || said), averaged over the tokens. Both models must have
    one tokenizer."""
    nats, apart = 0.0, 0.0
    for start in range(0, len(tokens), _LOGIT_ROWS):
        said_RV = _nats(said, start)
        wanted_R = torch.tensor(tokens[start : start + _LOGIT_ROWS], device=said_RV.device)
        nats += float(said_RV.gather(1, wanted_R[:, None]).double().sum())
        if other is not None:
            other_RV = _nats(other, start)
            apart += float((other_RV.exp() * (other_RV - said_RV)).sum(dim=1).double().sum())
    return Likelihood(nats=nats, tokens=len(tokens), divergence=apart / len(tokens) if other is not None else None)


def chances_after(chat: ChatTokenizer, hidden_RE: torch.Tensor, logits: Logits) -> list[TokenChances]:
    """The likeliest tokens after each of some hidden states, with their log-probabilities: all at once, since steps wait meanwhile.

    Raises Internal.
    """
    nats_RV = logits(hidden_RE).float().log_softmax(dim=1)
    values, places = nats_RV.topk(min(TOLD, nats_RV.shape[1]))
    if not values.isfinite().all():
        raise not_finite()
    names = TokenBytes(chat.tokenizer)
    return [
        TokenChances(tokens=tuple(names.of(place).hex() for place in row), nats=tuple(nats))
        for row, nats in zip(places.tolist(), values.tolist(), strict=True)
    ]


def _nats(side: Side, start: int) -> torch.Tensor:
    hidden_RE, logits = side
    return logits(hidden_RE[start : start + _LOGIT_ROWS]).float().log_softmax(dim=1)
