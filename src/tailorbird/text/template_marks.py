"""Places of the assistant's turns in a conversation that a chat template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tailorbird.domain.prompt import Message
from tailorbird.text.chat_templates import CLOSED, RenderMode, Variables, render
from tailorbird.text.template_environment import MARKS

_MARKED = RenderMode(add_generation_prompt=False, marked=True)


class MarkedConversation(NamedTuple):
    """A conversation as its template lays it out. ``turns`` are the assistant's, each from its first character to before its last;
    ``declared``: the template marks them itself (``{% generation %}``)."""

    text: str
    turns: tuple[tuple[int, int], ...]
    declared: bool


def marked_conversation(template: str, messages: Sequence[Message], variables: Variables) -> MarkedConversation | None:
    """The places of the assistant's turns: by the template's generation blocks, or else by a twin of the conversation in which each answer
    stands between two private characters.

    None where nothing is proven: without the marks the twin is not byte for byte what the template writes, or turns are missing. Raises
    ModelInvalid as ``render``.
    """
    if any(mark in message.content for message in messages for mark in MARKS):
        return None
    text = render(template, messages, variables, CLOSED)
    said = sum(message.role == "assistant" for message in messages)
    declared = render(template, messages, variables, _MARKED)
    for marked, own in ((declared, True), (render(template, [_framed(each) for each in messages], variables, CLOSED), False)):
        bare, turns = _unmarked(marked)
        if bare == text and len(turns) == said:
            return MarkedConversation(text, turns, own)
    return None


def _framed(message: Message) -> Message:
    """An answer between marks. Outer white space stays outside: a template that trims would not find it behind a mark."""
    if message.role != "assistant" or not message.content.strip():
        return message
    content = message.content
    inner = content.strip()
    before, _, after = content.partition(inner)
    return message.model_copy(update={"content": f"{before}{MARKS[0]}{inner}{MARKS[1]}{after}"})


def _unmarked(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text without marks, and the places between each two; none where they do not come in pairs."""
    parts, bare, places = text.split(MARKS[0]), "", list[tuple[int, int]]()
    bare += parts[0]
    for part in parts[1:]:
        inner, mark, after = part.partition(MARKS[1])
        if not mark or MARKS[1] in after:
            return "", ()
        places.append((len(bare), len(bare) + len(inner)))
        bare += inner + after
    return bare, tuple(places)
