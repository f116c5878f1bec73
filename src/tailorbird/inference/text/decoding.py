"""Decoding: sampling of the next token, JSON-schema constraints, and streamed text without reasoning, tool calls and stop strings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tailorbird.chat.frames import CallParser, ReasoningMarks
from tailorbird.chat.tokenizer import TokenBytes
from tailorbird.domain.errors import Internal, InvalidInput, Unavailable
from tailorbird.domain.prompt import Sampling, ToolCall

#: Characters of a schema at most. What a token costs grows with it, and is paid by whoever is computed beside it.
MOST_SCHEMA = 2**15


class Constraint:
    """One answer's way through a grammar that ``param`` of its request asks for. Its methods raise InvalidInput where the answer passes the
    limits of the grammar's library."""

    def __init__(self, matcher: Any, param: str) -> None:
        self._matcher, self._param = matcher, param

    def mask(self, logits_V: torch.Tensor) -> torch.Tensor:
        """``logits_V`` with minus infinity at every token that cannot come next."""
        bits = np.frombuffer(self._followed(self._matcher.compute_bitmask), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=len(logits_V)).astype(bool)
        if not allowed.any():
            raise _unusable(self._param)
        return logits_V.masked_fill(torch.from_numpy(~allowed).to(logits_V.device), float("-inf"))

    def take(self, token: int) -> None:
        """``token`` came."""
        self._followed(self._matcher.consume_token, token)

    def _followed(self, do: Callable[..., Any], *given: int) -> Any:
        """What ``do`` gives. A matcher that has passed its limits raises, or else allows only the end of the answer."""
        with _refused_as_schema(self._param):
            found = do(*given)
        if self._matcher.is_error():
            raise _unusable(self._param)
        return found


class Grammars:
    """Compiles schemas for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = ends

    def constraint(self, schema: str) -> Constraint:
        """A fresh constraint. Raises InvalidInput for a schema that is none, Unavailable without llguidance."""
        library, _ = self._reader
        if len(schema) > MOST_SCHEMA:
            raise InvalidInput(
                f"the JSON schema has more than {MOST_SCHEMA:,} characters",
                "shorten it: each token of the answer is checked against all of it",
                param="response_format",
            )
        return self._matching(
            lambda: library.LLMatcher.grammar_from_json_schema(json.loads(schema) or {"type": "object"}), "response_format"
        )

    def call_constraint(self, grammar: str) -> Constraint:
        """A fresh constraint by a grammar of calls. Raises as ``constraint``: it holds the schemas of the functions."""
        library, _ = self._reader
        if len(grammar) > MOST_SCHEMA:
            raise InvalidInput(
                f"the definitions of the tools have more than {MOST_SCHEMA:,} characters",
                "offer fewer tools, or leave tool_choice at auto: each token of a call that must come is checked against all of them",
                param="tools",
            )
        return self._matching(lambda: library.LLMatcher.grammar_from_lark(grammar), "tools")

    def _matching(self, make: Callable[[], str], param: str) -> Constraint:
        """A constraint by the grammar that ``make`` makes of what ``param`` of a request says."""
        library, reader = self._reader
        with _refused_as_schema(param):
            matcher = library.LLMatcher(reader, make(), log_level=0)
        if matcher.is_error():
            raise _unusable(param)
        return Constraint(matcher, param)

    @cached_property
    def _reader(self) -> tuple[Any, Any]:
        """llguidance and its reading of the tokenizer."""
        try:
            import llguidance
        except ModuleNotFoundError as error:
            raise Unavailable(
                "answers in JSON need the package llguidance, which is not installed",
                "pip install 'tailorbird[local]'",
                code="package_missing",
            ) from error
        return llguidance, llguidance.LLTokenizer(self._tokenizer.to_str(), eos_token=sorted(self._ends))


@contextmanager
def _refused_as_schema(param: str) -> Iterator[None]:
    """Whatever the grammar's library raises is about the schema; a panic in Rust is not even an Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise _unusable(param) from error


def _unusable(param: str) -> InvalidInput:
    what = "the JSON schema" if param == "response_format" else "a JSON schema among the parameters of the tools"
    return InvalidInput(
        f"{what} cannot be followed", "give a JSON schema of plain types, enums and objects", code="schema_invalid", param=param
    )


#: Of a narrow draw so many of the likeliest tokens are looked at first: sorting the whole vocabulary costs as much as a step.
_FIRST_LOOK = 256
#: Below this temperature the likeliest token is drawn: a smaller one leaves it all of the probability, and one near zero cannot divide.
_COLDEST = 1e-5


class SampledToken(NamedTuple):
    """A token; where asked for, its log-probability (nats) and the likeliest tokens with theirs."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class RowSampler:
    """Sampler of one row. ``place`` is its place in the call, so that equal prompts of one call differ. While it ``waits`` for the
    answer to begin, nothing is constrained."""

    def __init__(self, sampling: Sampling, place: int = 0, constraint: Constraint | None = None) -> None:
        self.sampling = sampling
        self.constraint = constraint
        self.waits = False
        draws = sampling.temperature >= _COLDEST
        self._generator = torch.Generator().manual_seed((sampling.seed + place) % 2**63) if draws else None

    @property
    def is_plain(self) -> bool:
        """True when the likeliest token is all that is asked for."""
        return self._generator is None and self.constraint is None and self.sampling.logprobs is None

    def draw(self, logits_V: torch.Tensor) -> SampledToken:
        """One token. Log-probabilities are those of the model, before anything was left out."""
        constraint = None if self.waits else self.constraint
        allowed_V = constraint.mask(logits_V) if constraint else logits_V
        token = (
            int(allowed_V.argmax()) if self._generator is None else self._sampled(allowed_V / self.sampling.temperature, self._generator)
        )
        if constraint:
            constraint.take(token)
        if self.sampling.logprobs is None:
            return SampledToken(token)
        nats_V = torch.log_softmax(logits_V.float(), dim=0)
        values, places = nats_V.topk(self.sampling.logprobs)
        return SampledToken(token, float(nats_V[token]), tuple(zip(places.tolist(), values.tolist(), strict=True)))

    def _sampled(self, logits_V: torch.Tensor, generator: torch.Generator) -> int:
        """From the nucleus (Holtzman et al. 2020) of the likeliest ``top_k``."""
        top_p, top_k = self.sampling.top_p, self.sampling.top_k or len(logits_V)
        odds_V = torch.softmax(logits_V, dim=0)
        if top_p >= 1 and top_k >= len(logits_V):
            return int(torch.multinomial(odds_V.cpu(), 1, generator=generator))
        odds_K, order_K = odds_V.topk(min(top_k, _FIRST_LOOK, len(odds_V)))
        if len(odds_K) < top_k and odds_K.sum() < top_p:
            odds_K, order_K = odds_V.topk(min(top_k, len(odds_V)))
        # The token that crosses the threshold belongs to the nucleus, so the mass before it is what counts; the first always does. The
        # threshold is a share of what top_k left.
        kept = odds_K.sum() if top_k < len(odds_V) else 1.0
        before_K = odds_K.cumsum(dim=0) - odds_K
        odds_K[before_K >= max(top_p, 1e-9) * kept] = 0.0
        return int(order_K[torch.multinomial(odds_K.cpu(), 1, generator=generator)])


def likeliest(logits_BV: torch.Tensor) -> list[tuple[int, bool]]:
    """The likeliest token of each row, and whether the row can be chosen from: no logit is NaN, and the highest is finite."""
    if logits_BV.device.type == "cpu" and logits_BV.dtype is torch.float32:
        # The same (the first of equals, of a NaN where there is one) in a tenth of torch's time.
        found_BV = logits_BV.numpy()
        best_B = found_BV.argmax(axis=1)
        return list(zip(best_B.tolist(), np.isfinite(found_BV[np.arange(len(best_B)), best_B]).tolist(), strict=True))
    tokens_B = logits_BV.argmax(dim=1)  # of a NaN, where there is one
    highest_B = logits_BV.gather(1, tokens_B[:, None]).squeeze(1)
    return list(zip(tokens_B.tolist(), highest_B.isfinite().tolist(), strict=True))


def choose(logits_V: torch.Tensor, drawer: RowSampler, greedy: int, *, finite: bool) -> SampledToken:
    """The next token of a row whose likeliest is ``greedy``. Raises Internal where the row is not ``finite``."""
    if not finite:
        raise not_finite()
    return SampledToken(greedy) if drawer.is_plain else drawer.draw(logits_V)


def not_finite() -> Internal:
    """Error of a request for which the model computed NaN or infinity."""
    return Internal(
        "the model's output for this request is not finite (NaN or infinity)",
        "look for damaged or diverged weights in this release; roll it back meanwhile",
    )


class StopWatch:
    """Filter that passes text until a stop string appears. Holds back an end that may yet become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Text that can be shown after ``text`` was added."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """Text held back, at the end of the answer."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class ReasoningFilter:
    """Finds where the answer begins: behind the end of reasoning that the prompt or the model has begun, behind what stands in its stead,
    or at once. ``over``: the answer has begun; ``skipped``: it began at once."""

    def __init__(self, tokenizer: Tokenizer, marks: ReasoningMarks) -> None:
        self._tokenizer, self._decoder = tokenizer, DecodeStream(skip_special_tokens=False)
        self._begin, self._end, self._none = (mark.strip() for mark in marks)
        self._text, self._begun = "", not self._begin
        self.over = self.skipped = False

    @property
    def begun(self) -> bool:
        """True while the model reasons."""
        return self._begun and not self.over

    def feed(self, token: int) -> str:
        """What of the answer came with ``token``; empty before it begins."""
        self._text += self._decoder.step(self._tokenizer, token) or ""
        text = self._text.lstrip()
        if not self._begun:
            if text.startswith(self._begin):
                self._begun = True
            elif self._none and text.startswith(self._none):
                self.over = True
                return text.removeprefix(self._none)
            elif not (self._begin.startswith(text) or self._none.startswith(text)):
                self.over = self.skipped = True
                return ""
        self.over = bool(self._begun and self._end and self._end in self._text)
        return self._text.partition(self._end)[2] if self.over else ""


class ToolCallFilter:
    """Passes what an answer says and holds back what its calls may begin with. ``marks`` are control tokens that frame calls: they give no
    text of their own elsewhere. ``calls`` are known once the answer has ended; of several ``one`` leaves the first."""

    def __init__(self, parser: CallParser, marks: Mapping[int, str], *, one: bool = False) -> None:
        self._parser, self._marks, self._one = parser, marks, one
        self._held = ""
        self._begun = self._calling = False
        self.calls: tuple[ToolCall, ...] = ()

    def mark(self, token: int) -> str:
        """The text of a control token that frames calls; empty for any other."""
        return self._marks.get(token, "")

    def feed(self, text: str) -> str:
        """What may be shown after ``text`` came."""
        self._held += text
        if self._calling:
            return ""
        if not self._begun and not self._begins():
            return ""
        if not self._parser.anywhere:
            shown, self._held = self._held, ""
            return self._without_marks(shown)
        place = self._held.find(self._parser.trigger)
        self._calling = place >= 0
        if place < 0:
            place = len(self._held) - _overlap(self._held, self._parser.trigger)
        shown = self._held[:place].rstrip()
        self._held = self._held[len(shown) :]
        return self._without_marks(shown)

    def _begins(self) -> bool:
        """True once the answer says something: behind its head, where it has one."""
        said = self._held.lstrip()
        head, trigger = self._parser.head, self._parser.trigger
        if said.startswith(trigger):
            self._calling = True
        elif head and said.startswith(head):
            self._begun, self._held = True, said.removeprefix(head)
        elif not any(mark.startswith(said) for mark in (head, trigger) if mark):
            self._begun = True
        return self._begun

    def finish(self) -> str:
        """What is left to be shown at the end of the answer: all of it where it is no call."""
        held, self._held = self._held, ""
        if self._calling:
            self.calls = self._parser.parse(held.lstrip())[: 1 if self._one else None]
        if self.calls:
            return ""
        held = self._without_marks(held)
        return held if self._begun else held.lstrip()

    def _without_marks(self, text: str) -> str:
        for name in self._marks.values():
            text = text.replace(name, "")
        return text


class TextStream:
    """Turns one answer's tokens into text. Special tokens give none, and neither does what is reasoned before it (``reasoning``), nor the
    ``calls`` at its end."""

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], reasoning: ReasoningFilter | None = None, calls: ToolCallFilter | None = None
    ) -> None:
        self._tokenizer, self._calls = tokenizer, calls
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._bytes = TokenBytes(tokenizer)
        self._watch = StopWatch(stops)
        self._reasoning = reasoning
        self._held, self._trims = "", False

    @property
    def stopped(self) -> bool:
        """True once a stop string has appeared."""
        return self._watch.stopped

    def feed(self, token: int) -> str:
        """The text that may be shown after ``token``; empty while a character or a possible stop string is unfinished."""
        text = self._decoder.step(self._tokenizer, token) or ""
        if self._reasoning is not None and not self._reasoning.over:
            # What of the answer came with ``token``. White space between reasoning and answer is neither's.
            reasoning = self._reasoning
            self._held += text or (self._calls.mark(token) if self._calls is not None and not reasoning.begun else "")
            rest = reasoning.feed(token)
            self._trims = reasoning.over and not reasoning.skipped
            text = self._held if reasoning.skipped else rest
        elif self._calls is not None and not text:
            text = self._calls.mark(token)
        if self._trims:
            text = text.lstrip()
            self._trims = not text
        if self._calls is not None:
            text = self._calls.feed(text)
        return self._watch.feed(text) if text else ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the answer, once it has ended."""
        return () if self._calls is None or self.stopped else self._calls.calls

    @property
    def waits(self) -> bool:
        """True before the answer begins."""
        return self._reasoning is not None and not self._reasoning.over

    @property
    def reasoned(self) -> bool:
        """True where what came last is no part of the answer."""
        return self._reasoning is not None and (self._reasoning.begun or (self._reasoning.over and not self._reasoning.skipped))

    def finish(self) -> str:
        """Remaining text at the end: nothing where the model still reasons."""
        if self.waits and self._reasoning is not None and not self._reasoning.begun:
            held = self._held if self._calls is None else self._calls.feed(self._held) + self._calls.finish()
            return self._watch.feed(held) + self._watch.finish()
        rest = self._calls.finish() if self._calls is not None else ""
        return self._watch.feed(rest) + self._watch.finish()

    def bytes_of(self, token: int) -> bytes:
        """As ``TokenBytes.of``."""
        return self._bytes.of(token)
