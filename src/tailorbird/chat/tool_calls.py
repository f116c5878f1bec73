"""Tool calls and tool definitions: their JSON in one spelling, within limits, and the texts in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tailorbird.domain.prompt import Message, ToolCall

#: Calls in one turn, and functions that a conversation offers.
MOST_CALLS, MOST_TOOLS = 64, 128
#: Characters of the arguments of one call, and of all definitions of a conversation.
LONGEST_ARGUMENTS, LONGEST_TOOLS = 2**16, 2**18
#: How deeply objects and lists may be nested.
DEEPEST = 24
#: A name with other letters could end what a template writes around it.
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


class ToolFault(ValueError):
    """A call or a definition that cannot be used: code and reason, without its text."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def canonical(value: Any) -> str:
    """``value`` as JSON in one spelling; the order of keys is kept. Raises ToolFault."""
    if _depth(value) > DEEPEST:
        raise ToolFault("json_depth", f"its JSON is nested more than {DEEPEST} levels deep")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolFault("arguments_invalid", "it holds what JSON cannot write: a number that is none, or half of a character") from error
    return text


def arguments_text(value: Any) -> str:
    """Arguments of a call, given as an object or as its JSON text, in one spelling. None and an empty text are no arguments.

    Raises ToolFault.
    """
    if isinstance(value, str):
        value = parsed_json(value, LONGEST_ARGUMENTS, "arguments_invalid", "the arguments of a call") if value.strip() else {}
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise ToolFault("arguments_invalid", "the arguments of a call are no JSON object")
    text = canonical(value)
    if len(text) > LONGEST_ARGUMENTS:
        raise ToolFault("arguments_too_long", f"the arguments of a call have more than {LONGEST_ARGUMENTS:,} characters")
    return text


def parsed_json(text: str, longest: int, code: str, what: str) -> Any:
    """What ``text`` says, bounded before it is read. Raises ToolFault."""
    if len(text) > longest:
        raise ToolFault("arguments_too_long", f"{what} have more than {longest:,} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolFault(code, f"{what} are no JSON") from error


def tool_call(item: Any) -> ToolCall:
    """A call as OpenAI's API writes it (``{"id", "type", "function": {"name", "arguments"}}``), or with name and arguments at once.

    Raises ToolFault.
    """
    function = item.get("function", item) if isinstance(item, Mapping) else None
    if not isinstance(function, Mapping) or item.get("type", "function") not in ("function", None):
        raise ToolFault("call_invalid", "a call names no function")
    told = item.get("id")
    return ToolCall(
        id=told if isinstance(told, str) else "", name=_name(function.get("name")), arguments=arguments_text(function.get("arguments"))
    )


def tool_calls(value: Any) -> tuple[ToolCall, ...]:
    """The calls of a turn. Raises ToolFault."""
    if not isinstance(value, list | tuple):
        raise ToolFault("call_invalid", "the calls of a turn are no list")
    if len(value) > MOST_CALLS:
        raise ToolFault("calls_too_many", f"a turn has more than {MOST_CALLS} calls")
    return tuple(map(tool_call, value))


def tools_text(value: Any) -> str:
    """The functions that a conversation offers, given as a list or as its JSON text, in one spelling; empty where there are none.

    Raises ToolFault.
    """
    if isinstance(value, str):
        value = parsed_json(value, LONGEST_TOOLS, "tools_invalid", "the tools") if value.strip() else []
    value = [] if value is None else value
    if not isinstance(value, list):
        raise ToolFault("tools_invalid", "the tools are no list of function definitions")
    if len(value) > MOST_TOOLS:
        raise ToolFault("tools_too_many", f"there are more than {MOST_TOOLS} tools")
    functions = [_definition(item) for item in value]
    found = [{"type": "function", "function": function} for function in functions]
    names = [function["name"] for function in functions]
    if len(set(names)) < len(names):
        raise ToolFault("tools_invalid", "two of the tools have one name")
    text = canonical(found) if found else ""
    # Templates write definitions with indents, which grow with the depth.
    if len(text) > LONGEST_TOOLS or len(json.dumps(found, indent=4)) > 2 * LONGEST_TOOLS:
        raise ToolFault("tools_too_long", f"the tools have more than {LONGEST_TOOLS:,} characters")
    return text


def _definition(item: Any) -> dict[str, Any]:
    """A definition, with OpenAI's frame or without. What data frames fill up with nothing is left out."""
    if not isinstance(item, Mapping) or item.get("type", "function") not in ("function", "object", None):
        raise ToolFault("tools_invalid", "a tool is no function definition")
    function = item.get("function", item)
    if not isinstance(function, Mapping):
        raise ToolFault("tools_invalid", "a tool is no function definition")
    plain = {str(key): value for key, value in function.items() if value is not None and not (function is item and key == "type")}
    plain["name"] = _name(plain.get("name"))
    parameters = plain.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise ToolFault("tools_invalid", "the parameters of a tool are no JSON schema")
    if parameters:
        if parameters.get("type", "object") not in ("object", None):
            raise ToolFault("tools_invalid", "the parameters of a tool describe no object, which arguments are")
        plain["parameters"] = {"type": "object", **_said(parameters)}
    return {"name": plain.pop("name"), **plain}


def _said(schema: Any) -> Any:
    """``schema`` without keys that a data frame filled up with nothing; a ``default`` or ``const`` may be nothing."""
    if isinstance(schema, Mapping):
        return {str(key): _said(value) for key, value in schema.items() if value is not None or key in ("default", "const")}
    return schema


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ToolFault("function_name", "a function has no name of at most 128 letters, digits and the marks _ . : / -")
    return value


def _depth(value: Any) -> int:
    """How deeply ``value`` is nested; no deeper than is told apart."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [
            inner
            for each in level
            for inner in (list(each.values()) if isinstance(each, Mapping) else each if isinstance(each, list | tuple) else ())
        ]
        depth += 1
    return depth


def linked(messages: Sequence[Message]) -> list[Message]:
    """The turns with calls numbered in their order, and results that name the call that they answer: names that a service drew at random
    say nothing, and would make equal conversations differ.

    Raises ToolFault where a result answers no call of the turn before it, or somebody goes on before each call is answered.
    """
    turns, count = list[Message](), 0
    #: Ids of the calls of a turn that no result has answered yet, by the names that they get.
    waiting: dict[str, str] = {}
    for turn in messages:
        if turn.role == "tool":
            # The first open call of this id, or of any where one of both names none.
            told = turn.tool_call_id
            name = next((name for name, id_ in waiting.items() if not told or id_ in (told, "")), None)
            if name is None:
                raise ToolFault(
                    "call_missing",
                    "a turn of a tool answers no call of the assistant's turn before it: tool_call_id names none that is open",
                )
            del waiting[name]
            turns.append(turn.model_copy(update={"tool_call_id": name}))
            continue
        if waiting:
            raise ToolFault("result_missing", "a call is not answered by a turn of a tool before the conversation goes on")
        waiting = {f"call{place:05d}": call.id for place, call in enumerate(turn.tool_calls, count)}
        count += len(waiting)
        calls = [call.model_copy(update={"id": name}) for call, name in zip(turn.tool_calls, waiting, strict=True)]
        turns.append(turn.model_copy(update={"tool_calls": tuple(calls)}) if calls else turn)
    return turns


def same_calls(one: Sequence[ToolCall], other: Sequence[ToolCall]) -> bool:
    """True where both call the same functions with the same arguments; neither the order of keys nor that of parallel calls counts."""
    return sorted(map(_told, one)) == sorted(map(_told, other))


def _told(call: ToolCall) -> tuple[str, str]:
    return call.name, json.dumps(_numbers(json.loads(call.arguments)), ensure_ascii=False, sort_keys=True)


def _numbers(value: Any) -> Any:
    """2.0 is 2: JSON has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    return [_numbers(each) for each in value] if isinstance(value, list) else value


def mapped(value: Any, change: Callable[[str], str], key: str = "") -> Any:
    """JSON with each text in it changed, keys among them. A number becomes a text where it is changed as one. With a ``key`` a text is
    shown as ``key: text``, which tells what it is."""
    if isinstance(value, dict):
        return {change(name): mapped(each, change, name if key else "") for name, each in value.items()}
    if isinstance(value, list):
        return [mapped(each, change, key) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    written, shown = str(value), f"{key}: " if key else ""
    said = change(shown + written)
    said = said.removeprefix(shown) if said.startswith(shown) else change(written)
    return value if said == written else said


def mapped_message(message: Message, change: Callable[[str], str], *, keyed: bool = False) -> Message:
    """``message`` with each text in it changed: content, and those in calls and definitions."""

    def rewritten(text: str) -> str:
        return json.dumps(mapped(json.loads(text), change, "arguments" if keyed else ""), ensure_ascii=False)

    calls = tuple(call.model_copy(update={"arguments": rewritten(call.arguments)}) for call in message.tool_calls)
    definitions = [_mapped_definition(each, change, "parameters" if keyed else "") for each in json.loads(message.tools or "[]")]
    tools = json.dumps(definitions, ensure_ascii=False) if definitions else ""
    return message.model_copy(update={"content": change(message.content), "tool_calls": calls, "tools": tools})


def _mapped_definition(tool: dict[str, Any], change: Callable[[str], str], key: str) -> dict[str, Any]:
    """``tool`` with each text but the function's name changed."""
    function: dict[str, Any] = tool["function"]
    rest = mapped({name: value for name, value in function.items() if name != "name"}, change, key)
    return tool | {"function": {"name": function["name"], **rest}}


def texts_of(message: Message) -> Iterator[str]:
    """Each text in ``message``: content, names, and those in calls and definitions."""
    found = [message.content]

    def note(text: str) -> str:
        found.append(text)
        return text

    for call in message.tool_calls:
        note(call.name)
        mapped(json.loads(call.arguments), note)
    if message.tools:
        mapped(json.loads(message.tools), note)
    return iter(found)


def offered_tools(messages: Sequence[Message]) -> str:
    """The functions that the conversation offers; empty where there are none."""
    return next((message.tools for message in messages if message.tools), "")


def tool_names(tools: str) -> frozenset[str]:
    """Names of the functions in ``tools``."""
    return frozenset(each["function"]["name"] for each in json.loads(tools)) if tools else frozenset()


def uses_tools(messages: Sequence[Message]) -> bool:
    """True where functions are offered, were called, or answered."""
    return any(message.tools or message.tool_calls or message.role == "tool" for message in messages)
