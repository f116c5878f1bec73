"""Prompt of a candidate (instruction, demonstrations, labels), messages and sampling."""

from __future__ import annotations

from typing import Literal

from tailorbird.domain.value import Value


class ToolCall(Value):
    """One call of a function. ``arguments`` are a JSON object as text, in one spelling (``text/tool_calls.py``)."""

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
