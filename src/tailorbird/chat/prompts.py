"""From a text to the messages put to a model, and from messages to the text the model reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tailorbird.chat.conversations import answer_turn, unfold_turns
from tailorbird.chat.templates import ASKED, RenderMode, Variables, render
from tailorbird.chat.tool_calls import mapped_message, offered_tools, texts_of, uses_tools
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Entry, Message, PromptSpec, answer_of
from tailorbird.text.label_rules import NONE, SEPARATOR


def messages_for(prompt: PromptSpec, text: str, context: Sequence[Entry] = ()) -> tuple[Message, ...]:
    """The conversation for one user text: instruction (with labels, if listed), demonstrations, the text.

    ``context`` is what was looked up for the text, best first: entries with an answer are shown as demonstrations, the best one last, next
    to the text (Liu et al. 2022, arXiv 2101.06804); entries without one as passages below the instruction.
    """
    system = prompt.instruction
    if prompt.list_labels and prompt.labels:
        asked = f"all of these that apply, separated by {SEPARATOR}, or {NONE}" if prompt.label_sets else "exactly one of"
        system += f"\nAnswer with {asked}: " + ", ".join(prompt.labels) + "."
    passages = [entry for entry in context if not entry.target]
    if passages:
        quoted_passages = [f"[{place}] {_passage(entry)}" for place, entry in enumerate(passages, start=1)]
        system += "\n\nPassages that may help:\n" + "\n".join(quoted_passages)
    messages = [Message(role="system", content=system)]
    examples = [(entry.text, entry.target) for entry in reversed(context) if entry.target]
    for shown, target in [*((one.text, one.target) for one in prompt.demonstrations), *examples]:
        turns, answer = unfold_turns(shown), answer_turn(answer_of(target))
        if uses_tools([*turns, answer]):  # these are not the functions that this conversation offers
            continue
        messages += [without_reasoning(turn) for turn in turns if turn.role != "system"]
        messages.append(answer)
    messages.append(Message(role="user", content=text))
    return tuple(messages)


def messages_for_row(prompt: PromptSpec, text: str, found: Sequence[Entry] = ()) -> tuple[Message, ...]:
    """The same for the text of a row, which may stand for a conversation (``chat/conversations.py``): its turns follow the
    demonstrations, and what its system turns say follows the instruction."""
    turns = unfold_turns(text)
    system, *shown, _ = messages_for(prompt, turns[-1].content, found)
    last, tools = turns[-1].model_copy(update={"tools": ""}), offered_tools(turns)
    added = [turn.content for turn in turns[:-1] if turn.role == "system" and turn.content != prompt.instruction]
    said = [without_reasoning(turn).model_copy(update={"tools": ""}) for turn in turns[:-1] if turn.role != "system"]
    return (Message(role="system", content="\n\n".join([system.content, *added]), tools=tools), *shown, *said, last)


def without_reasoning(turn: Message) -> Message:
    """The turn as later ones read it: what the assistant reasoned before it answered is over."""
    if turn.role != "assistant":
        return turn
    answer = answer_of(turn.content)
    return turn if answer == turn.content else turn.model_copy(update={"content": answer})


def _passage(entry: Entry) -> str:
    return f"{entry.title}: {entry.text}" if entry.title else entry.text


class PromptPiece(NamedTuple):
    """A part of a rendered prompt. ``quoted``: somebody wrote the name of a control token here, and it must be read as ordinary text."""

    text: str
    quoted: bool


#: Private characters that stand for quoted control tokens while a template runs: no template changes or trims them.
_PRIVATE = range(0xF0000, 0xFFFFE)


def render_pieces(
    template: str, messages: Sequence[Message], variables: Variables, control: Sequence[str], mode: RenderMode = ASKED
) -> list[PromptPiece]:
    """As ``render``, with every name of a ``control`` token that stands in a message (not in the template) as a piece of its own: in what
    it says, and in each text of calls and definitions of functions.

    A text that says ``<|im_end|>`` would otherwise end its own turn, and could write the next one. Raises ModelInvalid as ``render``.
    """
    texts = [text for message in messages for text in texts_of(message)]
    if not any(quoted(text, control) for text in texts):
        return [PromptPiece(render(template, messages, variables, mode), quoted=False)]
    letters = set().union(*texts)
    free = (chr(code) for code in _PRIVATE if chr(code) not in letters)
    stands_for = dict(zip(free, sorted(control, key=len, reverse=True), strict=False))
    if len(stands_for) < len(control):
        raise InvalidInput(
            "the text holds so many private-use characters that none is left to stand for a control token",
            "leave out private-use characters, or the names of control tokens",
        )
    rendered = render(template, [_veiled(message, stands_for) for message in messages], variables, mode)
    found = re.split(f"([{''.join(stands_for)}])", rendered)
    return [PromptPiece(stands_for.get(part, part), quoted=part in stands_for) for part in found if part]


def quoted(text: str, control: Sequence[str]) -> bool:
    """True when ``text`` names a control token."""
    return any(name in text for name in control)


def _veiled(message: Message, stands_for: dict[str, str]) -> Message:
    def veiled(text: str) -> str:
        for private, name in stands_for.items():
            text = text.replace(name, private)
        return text

    return mapped_message(message, veiled)
