"""Tools in request bodies: functions on offer, the choice among them, and calls that a conversation holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tailorbird.api.request_base import StrictModel
from tailorbird.domain.prompt import Message
from tailorbird.text.tool_calls import MOST_CALLS, MOST_TOOLS, linked, tool_calls, tool_names, tools_text, uses_tools


def _definitions(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Raises ToolFault, which is a ValueError."""
    if any(tool.get("type") != "function" or not isinstance(tool.get("function"), dict) for tool in value):
        raise ValueError("only tools of the type function are supported: {type: function, function: {name, description, parameters}}")
    tools_text(value)
    return value


def _calls(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tool_calls(value)
    return value


#: Functions on offer, within the limits of ``text/tool_calls``.
ToolDefinitions = Annotated[list[dict[str, Any]], Field(max_length=MOST_TOOLS, fail_fast=True), AfterValidator(_definitions)]
#: Calls of an assistant's message, as they were answered.
SaidCalls = Annotated[list[dict[str, Any]], Field(max_length=MOST_CALLS, fail_fast=True), AfterValidator(_calls)]


class _FunctionName(StrictModel):
    """The function to call."""

    name: str


class NamedChoice(StrictModel):
    """Has the answer call this function."""

    type: Literal["function"]
    function: _FunctionName

    @classmethod
    def named(cls, name: str) -> NamedChoice:
        """The choice of the function called ``name``."""
        return cls(type="function", function=_FunctionName(name=name))


#: Whether the answer calls a function: never (``none``: none is offered), as the model decides (``auto``), or one in any case.
ToolChoice = Literal["none", "auto", "required"] | NamedChoice


def choice_of(choice: ToolChoice | None, tools: Sequence[dict[str, Any]] | None) -> str:
    """The choice as sampling takes it. Raises ValueError where it asks for what is not on offer."""
    if choice is None or choice in ("none", "auto"):
        return "auto"
    if not tools:
        raise ValueError("tool_choice asks for a call, and no tools are given")
    if isinstance(choice, str):
        return choice
    if choice.function.name not in tool_names(tools_text(list(tools))):
        raise ValueError("tool_choice names a function that is not among the tools")
    if choice.function.name in ("auto", "required"):
        raise ValueError("a function called auto or required cannot be chosen by its name: offer it alone, and require a call")
    return choice.function.name


def offering(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None, choice: ToolChoice | None) -> tuple[Message, ...]:
    """The conversation with the functions that it offers on its first turn. Raises ToolFault where calls and results do not fit."""
    turns = linked(messages) if uses_tools(messages) else list(messages)
    if tools and choice != "none":
        turns[0] = turns[0].model_copy(update={"tools": tools_text(list(tools))})
    return tuple(turns)
