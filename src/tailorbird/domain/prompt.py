"""Prompt of a candidate (instruction, demonstrations, labels), messages and sampling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tailorbird.domain.value import Digest, Value


class ToolCall(Value):
    """One call of a function. ``arguments`` are a JSON object as text, in one spelling (``chat/tool_calls.py``)."""

    id: str = ""
    name: str
    arguments: str = "{}"


class Message(Value):
    """One turn of a conversation, in the words of the chat protocols. ``reasoning`` came before what the assistant said. ``tool_calls`` are
    the assistant's; ``tool_call_id`` names the call that a turn of the role ``tool`` answers. ``tools`` are the functions that the
    conversation offers, a JSON list of OpenAI function definitions as text: they are on one of its turns, mostly the first."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tools: str = ""


class Demonstration(Value):
    """A training row shown to the model as an example of the task. ``row_id`` keeps it erasable."""

    row_id: str
    text: str
    target: str


class PromptSpec(Value):
    """Everything that is put around a user's text. ``labels`` is empty for generation; ``label_sets`` are the sets of labels that can be
    answered, where an item may bear several. ``priors`` are
    what the model prefers before it has read a text, log-probabilities (nats) in the order of ``answers``: they are taken off
    its scores (Zhao et al. 2021, arXiv 2102.09690); empty: scores are taken as they are. ``alone``: an item may bear several labels, and
    each is scored by itself rather than sets of them. ``thresholds`` are the probabilities from which each label is given where an item may
    bear several, in the order of ``labels``; empty: a half. ``thinking``: the model reasons before it answers."""

    instruction: str
    labels: tuple[str, ...] = ()
    label_sets: tuple[str, ...] = ()
    list_labels: bool = False
    demonstrations: tuple[Demonstration, ...] = ()
    priors: tuple[float, ...] = ()
    alone: bool = False
    thresholds: tuple[float, ...] = ()
    thinking: bool = False

    @property
    def answers(self) -> tuple[str, ...]:
        """What is scored: labels, or sets of them, against one another; or each label by itself."""
        return self.labels if self.alone else self.label_sets or self.labels


#: Tokens that reasoning may take before an answer; ``Sampling.max_tokens`` counts the answer.
REASONING_TOKENS = 1024


class Sampling(Value):
    """How text is drawn. ``temperature`` 0 is greedy; ``max_tokens`` counts completion tokens; of the likeliest ``top_k`` (0: all) as many
    are drawn from as hold ``top_p`` of the probability. ``logprobs`` asks for log-probabilities, that of the token and of so many of the
    likeliest; ``json_schema`` (as text) allows only what fits it, ``{}`` any JSON object.
    ``tool_choice``: whether functions on offer are called is up to the model (``auto``), one is (``required``), or the one named. With
    ``one_call`` an answer calls at most one: the first. ``whole``: nobody reads the answer before it has ended, so an engine may tell it in
    few pieces."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    json_schema: str | None = None
    tool_choice: str = "auto"
    one_call: bool = False
    whole: bool = False


#: How many times the usual demonstrations a searched prompt may show, with labels and without: what it is not shown a small model seldom
#: says, and without labels examples are all that shows an answer.
SEARCHED_SHOTS, SEARCHED_SHOTS_WITHOUT_LABELS = 4, 8


class TriedPrompt(Value):
    """A prompt that a search scored. ``demonstrations`` are the ids of the training rows that it shows, in their order; ``origin`` says
    where it is from (``typical rows, 8``, ``part drawn anew``).

    ``score`` is its mean on the first ``rows`` held-out rows; ``difference`` with ``low`` and ``high`` (95 %) that to the prompt with which
    the search began, in pairs on the same rows.
    """

    prompt: Digest
    demonstrations: tuple[str, ...]
    list_labels: bool
    origin: str
    rows: int
    score: float
    difference: float
    low: float
    high: float


class PromptSearch(Value):
    """The log of a search: evidence of how a prompt was found. ``metric`` is what rows were scored by, ``budget`` the calls that it
    might make and ``calls`` those that it made; ``dropped`` counts prompts that were not read, by reason. ``rows`` are the rows held out.
    ``start`` names the prompt with which it began, ``chosen`` the one that it found, and ``difference`` with ``low`` and ``high`` (95 %) is
    how much better that was, in pairs on ``compared`` rows: those that chose it, so the number flatters it."""

    metric: str
    seed: int
    budget: int
    calls: int
    rows: int
    dropped: dict[str, int]
    start: Digest
    chosen: Digest
    compared: int
    difference: float
    low: float
    high: float
    tried: tuple[TriedPrompt, ...] = Field(default=())

    @property
    def sentence(self) -> str:
        """The search in a sentence."""
        if self.chosen == self.start:
            found = "none was better than the one it began with"
        else:
            found = (
                f"on {self.compared} held-out training rows, which chose it, {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}] in "
                f"{self.metric} against the prompt it began with"
            )
        dropped = f", {sum(self.dropped.values())} prompts dropped" if self.dropped else ""
        return f"{len(self.tried)} prompts tried with {self.calls:,} of {self.budget:,} calls{dropped}: {found}"


class Entry(Value):
    """Something that can be found. ``text`` is searched and shown; ``target`` is the answer beside it (``examples``); ``access`` as in
    ``Document``."""

    id: str
    title: str = ""
    text: str
    target: str = ""
    access: tuple[str, ...]


class Retrieval(Value):
    """How entries are found, and how many.

    ``what``: ``examples`` are training rows shown as demonstrations, ``passages`` pieces of documents shown as context, ``documents`` are
    the answer themselves (rank). ``ways`` are fused where there are two. ``index`` is a tree of entries and their vectors, ``encoder``
    the tree of the model that made them; ``tuned`` the tree of an adapter or of weights that read queries too, as one more way. A
    ``reranker`` (tree of a cross-encoder) orders the first ``depth`` anew. ``release`` is the release of kind rank from which encoders of
    ``passages`` are taken.
    """

    what: Literal["examples", "passages", "documents"]
    ways: tuple[Literal["words", "vectors"], ...]
    count: int
    index: Digest
    encoder: Digest | None = None
    tuned: Digest | None = None
    reranker: Digest | None = None
    depth: int = 50
    release: Digest | None = None


class RetrievedEntry(Value):
    """An entry that was found, and its score: comparable within one answer alone."""

    entry: Entry
    score: float


_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
_ALIAS = re.compile(r"(?:([a-z0-9][a-z0-9._-]{0,62})/)?([a-z0-9][a-z0-9._-]{0,62})")


@dataclass(frozen=True)
class ReleaseName:
    """What a release is called in an objective: by ``digest`` (or how it begins), or by an alias of a ``tenant`` (empty: the objective's
    own) with its ``name``."""

    digest: str = ""
    tenant: str = ""
    name: str = ""

    @classmethod
    def of(cls, text: str) -> ReleaseName | None:
        """What ``text`` means; None where it is no name of a release. Twelve hexadecimal digits or more are a digest."""
        if _DIGEST.fullmatch(text):
            return cls(digest=text)
        alias = _ALIAS.fullmatch(text)
        return cls(tenant=alias[1] or "", name=alias[2]) if alias else None


_BEGIN, _END = "<think>", "</think>"


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of what an assistant said; a text that does not begin with a block of reasoning is an answer."""
    said = text.lstrip()
    if not said.startswith(_BEGIN) or _END not in said:
        return "", text
    reasoning, _, answer = said.removeprefix(_BEGIN).partition(_END)
    return reasoning.strip("\n"), answer.lstrip("\n")


def ends_within(reasoning: str) -> bool:
    """True where reasoning holds the mark that ends it, so that ``split_reasoning`` would take the rest for the answer."""
    return _END in reasoning


def written_answer(text: str) -> str:
    """What a model of somebody else wrote after its reasoning, whose begin it may not have written; empty where it ends within it."""
    if _END in text:
        return text.rpartition(_END)[2]
    return "" if text.lstrip().startswith(_BEGIN) else text


def with_reasoning(reasoning: str, answer: str) -> str:
    """The text that ``split_reasoning`` takes apart again."""
    return f"{_BEGIN}\n{reasoning}\n{_END}\n\n{answer}" if reasoning.strip() else answer


def answer_of(text: str) -> str:
    """The answer alone."""
    return split_reasoning(text)[1]
