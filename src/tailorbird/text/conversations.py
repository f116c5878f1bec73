"""Conversations folded into one text, the form that a row can hold.

A single turn of a user stands for itself; anything longer is JSON that begins with ``MARK``, in one spelling, so that equal conversations
are equal texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tailorbird.domain.prompt import Message

#: How the text of a conversation of several turns begins.
MARK = '{"turns": [{"role": "'


def fold_turns(turns: Sequence[Message]) -> str:
    """The text for ``turns``."""
    if len(turns) == 1 and turns[0].role == "user" and not turns[0].content.startswith(MARK):
        return turns[0].content
    plain = [{"role": turn.role, "content": turn.content} for turn in turns]
    return json.dumps({"turns": plain}, ensure_ascii=False)


def unfold_turns(text: str) -> tuple[Message, ...]:
    """The turns that ``text`` stands for; a text that stands for none is one turn of the user."""
    if text.startswith(MARK):
        try:
            return tuple(_turn(**turn) for turn in json.loads(text)["turns"])
        except (ValueError, KeyError, TypeError, ValidationError):
            pass
    return (Message(role="user", content=text),)


def _turn(role: Any, content: Any) -> Message:
    """A turn has these and nothing else: reasoning that a row brings along would be read past the marks that texts may not write."""
    return Message.model_validate({"role": role, "content": content})


def last_user_turn(text: str) -> str:
    """Last turn of the conversation: the retrieval query, in evaluation and serving alike."""
    return unfold_turns(text)[-1].content if text.startswith(MARK) else text


def as_lines(text: str) -> str:
    """``text`` as people read it: each turn of a conversation with its role before it, and an empty line between two."""
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in unfold_turns(text)) if text.startswith(MARK) else text
