"""Conversations folded into one text, the form that a row can hold.

A single turn of a user stands for itself; anything longer is JSON that begins with ``MARK``, in one spelling, so that equal conversations
are equal texts. An answer that calls functions is folded in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from tailorbird.chat.tool_calls import mapped_message, offered_tools, texts_of, tool_calls, tools_text, uses_tools
from tailorbird.domain.prompt import Message, split_reasoning, with_reasoning

#: How the text of a conversation of several turns begins.
MARK = '{"turns": [{"role": "'
_ANSWER_MARK = f'{MARK}assistant"'


def fold_turns(turns: Sequence[Message]) -> str:
    """The text for ``turns``."""
    if len(turns) == 1 and turns[0].role == "user" and not turns[0].content.startswith(MARK) and not turns[0].tools:
        return turns[0].content
    tools = offered_tools(turns)
    return json.dumps({"turns": [_plain(turn) for turn in turns], **({"tools": json.loads(tools)} if tools else {})}, ensure_ascii=False)


def _plain(turn: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        plain["tool_calls"] = [{"id": call.id, "name": call.name, "arguments": json.loads(call.arguments)} for call in turn.tool_calls]
    return plain | ({"tool_call_id": turn.tool_call_id} if turn.tool_call_id else {})


def unfold_turns(text: str) -> tuple[Message, ...]:
    """The turns that ``text`` stands for; a text that stands for none is one turn of the user. The first has the functions on offer."""
    if text.startswith(MARK):
        try:
            held = json.loads(text)
            turns = tuple(_turn(**turn) for turn in held["turns"])
            if not turns:
                raise ValueError("a conversation has a turn")
            tools = tools_text(held.get("tools"))
            return (turns[0].model_copy(update={"tools": tools}), *turns[1:]) if tools else turns
        except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
            pass
    return (Message(role="user", content=text),)


def _turn(role: Any, content: Any, tool_calls: Any = (), tool_call_id: Any = "") -> Message:
    """A turn has these and nothing else: reasoning that a row brings along would be read past the marks that texts may not write."""
    said = {"role": role, "content": content, "tool_call_id": tool_call_id}
    return Message.model_validate(said | ({"tool_calls": _calls(tool_calls)} if tool_calls else {}))


_calls = tool_calls


def fold_answer(turn: Message) -> str:
    """What the assistant said, as the answer of a row: its reasoning, then its words, or its calls folded."""
    if not turn.tool_calls:
        return turn.content
    reasoning, said = split_reasoning(turn.content)
    called = Message(role="assistant", content=said, tool_calls=turn.tool_calls)
    return with_reasoning(reasoning, fold_turns([called]))


def earlier_answers(text: str, *, calls: bool = True) -> tuple[tuple[str, str], ...]:
    """What the assistant said in a conversation before what it is asked for now, in order: (the text that it was asked with, its answer).
    Without ``calls`` none that calls functions."""
    turns = unfold_turns(text)
    return tuple(
        (fold_turns(turns[:place]), fold_answer(turn))
        for place, turn in enumerate(turns)
        if turn.role == "assistant" and place and turns[place - 1].role in ("user", "tool") and (calls or not turn.tool_calls)
    )


def answer_turn(answer: str) -> Message:
    """The turn that an answer (without reasoning) stands for."""
    if answer.startswith(_ANSWER_MARK):
        turns = unfold_turns(answer)
        if len(turns) == 1 and turns[0].role == "assistant" and turns[0].tool_calls and not turns[0].tools:
            return turns[0]
    return Message(role="assistant", content=answer)


def last_user_turn(text: str) -> str:
    """Last turn of the user in the conversation: the retrieval query, in evaluation and serving alike."""
    if not text.startswith(MARK):
        return text
    turns = unfold_turns(text)
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), turns[-1].content)


def holds_tools(text: str) -> bool:
    """True where the conversation that ``text`` stands for offers functions, or has calls of them."""
    return text.startswith(MARK) and uses_tools(unfold_turns(text))


def as_lines(text: str) -> str:
    """``text`` as people read it: each turn of a conversation with its role before it, and an empty line between two."""
    return "\n\n".join(f"{turn.role}: {as_line(turn)}" for turn in unfold_turns(text)) if text.startswith(MARK) else text


def as_line(turn: Message) -> str:
    """What a turn says, with its calls as ``name(arguments)``."""
    return "\n".join(part for part in (turn.content, *(f"{call.name}({call.arguments})" for call in turn.tool_calls)) if part)


def shown_answer(answer: str) -> str:
    """An answer as people read it: one that calls functions as ``name(arguments)``."""
    return as_line(answer_turn(answer)) if answer.startswith(_ANSWER_MARK) else answer


def parts_of(text: str) -> tuple[str, ...]:
    """The texts in a row's text or answer, which may be folded: JSON writes some letters of them otherwise."""
    if not text.startswith(MARK):
        return (text,)
    turns = unfold_turns(text)
    return (text,) if turns[0].content == text else tuple(part for turn in turns for part in texts_of(turn))


def with_parts(text: str, change: Callable[[str], str]) -> str:
    """``text`` with each text in it changed, those of arguments shown with their keys; names of functions stay."""
    turns = unfold_turns(text) if text.startswith(MARK) else ()
    if not turns or turns[0].content == text:
        return change(text)
    return fold_turns([mapped_message(turn, change, keyed=True) for turn in turns])
