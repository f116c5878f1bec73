"""Conversations: a list of turns, each with a role and a content, the last of them the assistant's.

In: a record, a column. Out: what the model is given, folded into one text, and the answer; or why there is no row in it. Must not know:
files, prompts.
"""

from __future__ import annotations

import json
from typing import Any

from tailorbird.data.reading.cells import Unusable, is_unicode
from tailorbird.data.reading.record import Record
from tailorbird.domain.prompt import Message
from tailorbird.foundations.conversations import fold

#: How formats in use name the roles.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def answered(record: Record, column: str) -> tuple[str, str]:
    """(text, answer) of the conversation in ``column``: a list, or a text that is a JSON list. Raises Unusable.

    A system turn may open it; then user and assistant alternate, and the assistant has the last word.
    """
    turns = [_turn(item, column) for item in _list(record.cells.get(column), column)]
    spoken = [turn.role for turn in turns[turns[0].role == "system" if turns else 0 :]]
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        reason = f"the turns (column {column!r}) do not go user, assistant, …, assistant, with at most one system turn before them"
        raise Unusable("role_order", reason)
    return fold(turns[:-1]), turns[-1].content


def _list(value: Any, column: str) -> list[Any]:
    if value is None or value == "":
        raise Unusable("missing_cell", f"there is no conversation (column {column!r})")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Unusable("wrong_type", f"the conversation (column {column!r}) is not a JSON list") from error
    if not isinstance(value, list):
        raise Unusable("wrong_type", f"the conversation (column {column!r}) is not a list of turns")
    return value


def _turn(item: Any, column: str) -> Message:
    if not isinstance(item, dict):
        raise Unusable("wrong_type", f"a turn (column {column!r}) is no object with a role and a content")
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    known = ROLES.get(role.casefold()) if isinstance(role, str) else None
    if known is None:
        raise Unusable("role_unknown", f"a turn (column {column!r}) has no role that is known: {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise Unusable("empty_turn", f"a turn (column {column!r}) has no text as its content")
    if not is_unicode(content):
        raise Unusable("broken_text", f"a turn (column {column!r}) holds bytes that are no UTF-8, or half of a character")
    return Message.model_validate({"role": known, "content": content})
