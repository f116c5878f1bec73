"""Turns of a conversation in a record, with tool calls and reasoning, in the forms in use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tailorbird.data.readers.cells import UnusableRecord, is_unicode
from tailorbird.data.readers.data_file import Record
from tailorbird.domain.prompt import Message, ToolCall, answer_of, ends_within, split_reasoning, with_reasoning
from tailorbird.text.conversations import fold_answer, fold_turns
from tailorbird.text.tool_calls import ToolFault, canonical, linked, parsed_json, tool_call, tool_calls, tool_names, tools_text

#: How formats in use name the roles.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "client": "user",
    "caller": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "advisor": "assistant",
    "representative": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
#: How formats in use name what says who speaks, and what is said.
SPEAKER_KEYS, CONTENT_KEYS = ("role", "from", "speaker", "author", "sender"), ("content", "value", "text", "message", "parts")
#: What parts of a content are called that are no texts: no other word of a row stands in a reason.
_OTHER_PARTS = frozenset(
    {"audio", "document", "file", "image", "image_url", "input_audio", "input_file", "input_image", "video", "video_url"}
)
#: The role whose content is the call.
_CALLS = "function_call"
#: Names by which turns hold reasoning apart from their content.
_REASONING = ("reasoning_content", "reasoning", "thinking")


def answered(record: Record, column: str, tools: str | None = None, *, thinking: bool = False) -> tuple[str, str]:
    """(text, answer) of the conversation in ``column``: a list, or a text that is a JSON list; ``tools`` is the column with the functions
    that it offers. Raises UnusableRecord.

    A system turn may open it; then user and assistant alternate, and the assistant has the last word. What one says in several turns is
    joined by a blank line; what the assistant says before the first question, and the user after the last answer, is left out. Between a
    turn that calls functions and the next one of the assistant stand the results, at most one a call. With ``thinking`` what it reasoned
    stands before its answers (``domain/prompt.py``), else it is left out.
    """
    try:
        offered = tools_text(record.cells.get(tools)) if tools else ""
        turns = linked(_answered_alone(_joined(_turn(item, column, thinking) for item in _list(record.cells.get(column), column))))
    except ToolFault as fault:
        raise UnusableRecord(fault.code, f"{fault.reason} (column {column!r})") from fault
    _check_order(turns, column)
    _check_calls(turns, offered, column, tools)
    turns = [_without_filling(turn, offered) for turn in turns]
    if offered:
        turns[0] = turns[0].model_copy(update={"tools": offered})
    return fold_turns(turns[:-1]), fold_answer(turns[-1])


def _list(value: Any, column: str) -> list[Any]:
    if value is None or value == "":
        raise UnusableRecord("missing_cell", f"there is no conversation (column {column!r})")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UnusableRecord("wrong_type", f"the conversation (column {column!r}) is not a JSON list") from error
    if not isinstance(value, list):
        raise UnusableRecord("wrong_type", f"the conversation (column {column!r}) is not a list of turns")
    return value


def _turn(item: Any, column: str, thinking: bool) -> Message:
    if not isinstance(item, dict):
        raise UnusableRecord("wrong_type", f"a turn (column {column!r}) is no object with a role and a content")
    role = next((item[key] for key in SPEAKER_KEYS if key in item), None)
    role = role.casefold() if isinstance(role, str) else ""
    known = ROLES.get(role)
    content = _text_of(next((item[key] for key in CONTENT_KEYS if key in item), None), of_tool=known == "tool")
    if known is None:
        raise UnusableRecord("role_unknown", f"a turn (column {column!r}) has no role that is known: {', '.join(ROLES)}")
    if known == "tool":
        told = item.get("tool_call_id")
        return Message(role="tool", content=_result(content, column), tool_call_id=told if isinstance(told, str) else "")
    calls = _calls_of(item, role, content) if known == "assistant" else ()
    content = "" if calls and (content is None or role == _CALLS) else content
    if not isinstance(content, str) or not (content.strip() or calls):
        raise UnusableRecord("empty_turn", f"a turn (column {column!r}) {_lack_of(content)}")
    if not is_unicode(content):
        raise UnusableRecord("broken_text", f"a turn (column {column!r}) holds bytes that are no UTF-8, or half of a character")
    said = reasoned(content, item, thinking=thinking) if known == "assistant" else content
    if not (answer_of(said).strip() or calls):
        raise UnusableRecord("empty_turn", f"a turn (column {column!r}) has no answer behind its reasoning")
    return Message.model_validate({"role": known, "content": said, "tool_calls": calls})


def _joined(turns: Iterable[Message]) -> list[Message]:
    """``turns`` with one in place of several that one side takes in a row: people press Enter within what they say. Calls, results and
    reasoning stay as they are."""
    joined = list[Message]()
    for turn in turns:
        if joined and _can_join(joined[-1], turn):
            joined[-1] = joined[-1].model_copy(update={"content": f"{joined[-1].content}\n\n{turn.content}"})
        else:
            joined.append(turn)
    return joined


def _answered_alone(turns: list[Message]) -> list[Message]:
    """``turns`` from the first question to the last answer: without a greeting of the assistant before, and words of thanks after it."""
    rules = [turn for turn in turns[:1] if turn.role == "system"]
    said = turns[len(rules) :]
    while said and said[0].role == "assistant" and not said[0].tool_calls:
        said = said[1:]
    while said and said[-1].role == "user":
        said = said[:-1]
    return [*rules, *said]


def _can_join(before: Message, after: Message) -> bool:
    plain = not any(turn.tool_calls or split_reasoning(turn.content)[0] for turn in (before, after))
    return plain and before.role == after.role and before.role != "tool"


def is_turn(item: Any) -> bool:
    """True for an object that says who speaks, in ``role`` or ``from``, or by a known name: other objects have an author, too."""
    if not isinstance(item, dict):
        return False
    names = (item.get(key) for key in SPEAKER_KEYS)
    return not item.keys().isdisjoint(SPEAKER_KEYS[:2]) or any(isinstance(name, str) and name.casefold() in ROLES for name in names)


def _lack_of(content: Any) -> str:
    """What a turn has that is no text, and what is to be written in its place."""
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if odd := [kind for kind in kinds if isinstance(kind, str) and kind != "text"]:
        named = f" (type {odd[0]})" if odd[0] in _OTHER_PARTS else ""
        return f"holds a part that is no text{named}: write what it shows or says as a text, or leave such rows out"
    if isinstance(content, dict | list) and content:
        return "has a content that is no text: write it as one (json.dumps does)"
    return "has no text as its content"


def _text_of(content: Any, *, of_tool: bool) -> Any:
    """The text of a content in parts, where all of them are texts and nothing else; else the content as it is: a picture, or what a tool
    found beside a text, is not left out in silence."""

    def is_text(part: Any) -> bool:
        return isinstance(part, dict) and (part.get("type") == "text" or (part.keys() == {"text"} and not of_tool))

    if isinstance(content, list) and content and all(map(is_text, content)):
        texts = [part.get("text") for part in content]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else content
    return content


def _calls_of(item: dict[str, Any], role: str, content: Any) -> tuple[ToolCall, ...]:
    """The calls of an assistant's turn: in ``tool_calls``, in OpenAI's former ``function_call``, or as the content of a turn that is one.
    Raises ToolFault."""
    if role == _CALLS:
        found = parsed_json(content, 2**20, "call_invalid", "a turn of the role function_call") if isinstance(content, str) else content
        return tool_calls(found if isinstance(found, list) else [found])
    if item.get("tool_calls"):
        return tool_calls(_parsed_list(item["tool_calls"]))
    return (tool_call(item["function_call"]),) if item.get("function_call") else ()


def _parsed_list(value: Any) -> Any:
    return parsed_json(value, 2**20, "call_invalid", "the calls of a turn") if isinstance(value, str) else value


def _result(content: Any, column: str) -> str:
    """What a tool gave back: a text, parts that are texts, or JSON, which is written as its text. Raises ToolFault."""
    if isinstance(content, str):
        if not is_unicode(content):
            raise UnusableRecord("broken_text", f"a turn (column {column!r}) holds bytes that are no UTF-8, or half of a character")
        return content
    return "" if content is None else canonical(content)


def _check_order(turns: Sequence[Message], column: str) -> None:
    """Raises UnusableRecord where somebody else should have spoken."""
    expected, fits = "user", bool(turns) and turns[-1].role == "assistant"
    for turn in turns[turns[0].role == "system" if turns else 0 :]:
        if turn.role != "tool":
            fits = fits and turn.role == expected
            expected = "assistant" if turn.role == "user" or turn.tool_calls else "user"
    if not fits:
        reason = (
            f"the turns (column {column!r}) do not go user, assistant, …, assistant, with at most one system turn before them, and results "
            "of tools between a call and what the assistant says next"
        )
        raise UnusableRecord("role_order", reason)


def _check_calls(turns: Sequence[Message], offered: str, column: str, tools: str | None) -> None:
    """Raises UnusableRecord where a function is called that is not on offer."""
    called = {call.name for turn in turns for call in turn.tool_calls}
    if not called <= tool_names(offered):
        if tools is None:
            hint = f"a turn calls a function (column {column!r}): name the column with the definitions of functions, `tools`, under `data`"
            raise UnusableRecord("tools_missing", hint)
        raise UnusableRecord("function_unknown", f"a turn calls a function that the conversation does not offer (column {tools!r})")


def _without_filling(turn: Message, offered: str) -> Message:
    """``turn`` without arguments that are nothing and that the function does not take: a data frame gives each call the keys of all."""
    if not turn.tool_calls:
        return turn
    takes = {tool["function"]["name"]: tool["function"].get("parameters", {}).get("properties") for tool in json.loads(offered)}

    def said(call: ToolCall) -> ToolCall:
        known, arguments = takes[call.name], json.loads(call.arguments)
        kept = {key: value for key, value in arguments.items() if value is not None or known is None or key in known}
        return call.model_copy(update={"arguments": canonical(kept)}) if kept != arguments else call

    return turn.model_copy(update={"tool_calls": tuple(map(said, turn.tool_calls))})


def reasoned(content: str, item: dict[str, Any] | None = None, *, thinking: bool) -> str:
    """An answer with the reasoning before it, or without."""
    within, answer = split_reasoning(content)
    apart = next((value for name in _REASONING if isinstance(value := (item or {}).get(name), str) and is_unicode(value)), "")
    reasoning = within or apart.strip("\n")
    if thinking and ends_within(reasoning):
        raise UnusableRecord("reasoning_unclear", "the reasoning holds the mark that ends it: where the answer begins cannot be told")
    return with_reasoning(reasoning, answer) if thinking else answer
