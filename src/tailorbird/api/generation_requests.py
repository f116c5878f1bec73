"""Request body of the chat completions endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tailorbird.api.request_base import NEUTRAL, ParameterRules, RequestBase, StrictModel, only_text_parts
from tailorbird.domain.prompt import Message, Sampling
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


CHAT_PARAMETERS = ParameterRules(
    neutral={
        **NEUTRAL,
        "functions": (None, []),
        "function_call": (None, "none", "auto"),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "web_search_options": (None,),
        "reasoning_effort": (None, "none"),
        "verbosity": (None, "medium"),
    },
    harmless=frozenset({"store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prediction"}),
)


# Lists are left at their first fault: a body can hold as many as it has bytes, and only the first is told.


class TextPart(StrictModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(StrictModel):
    """One message. The empty fields are those with which clients send an assistant's message back."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | Annotated[list[TextPart], Field(fail_fast=True)] | None, BeforeValidator(only_text_parts)] = None
    name: str | None = None
    refusal: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: None = None
    tool_calls: SaidCalls | None = None
    tool_call_id: str | None = None
    function_call: None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> ChatMessage:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls go with the role assistant, and with no other")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id goes with the role tool, and with no other")
        return self

    def as_message(self) -> Message:
        """The message in our words: ``developer`` is ``system``, parts are joined."""
        parts = self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content or "")]
        role = "system" if self.role == "developer" else self.role
        return Message(
            role=role,
            content="".join(part.text for part in parts),
            tool_calls=tool_calls(self.tool_calls or []),
            tool_call_id=self.tool_call_id or "",
        )


class NamedSchema(StrictModel):
    """A JSON schema that the answer is to fit. ``strict`` changes nothing: it always is."""

    name: Annotated[str, Field(max_length=64)] = ""
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(StrictModel):
    """Text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema, and with no other")
        return self

    @property
    def as_text(self) -> str | None:
        """The schema as the engine takes it; None for text."""
        if self.json_schema is not None:
            return json.dumps(self.json_schema.schema_, ensure_ascii=False)
        return "{}" if self.type == "json_object" else None


class AttributedRequest(RequestBase):
    """A request with OpenAI's newer fields for its user and its metadata. ``safety_identifier`` keeps a user on one arm as ``user`` does;
    ``channel`` and ``language`` in ``metadata`` divide reports."""

    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None

    def segments(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """As the metadata say; else as the headers do."""
        said = {f"x-tailorbird-{name}": value for name, value in (self.metadata or {}).items() if isinstance(value, str)}
        return super().segments(dict(headers) | said)

    @property
    def keeps_to(self) -> str | None:
        """The newer name counts where both are given."""
        return self.safety_identifier or self.user


class ChatBody(AttributedRequest):
    """A chat completion request, as far as it is honoured."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: ToolDefinitions | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    example: ClassVar[str] = '{"model": ..., "messages": [...]}'

    @cached_property
    def conversation(self) -> tuple[Message, ...]:
        """The messages in our words. Asked for at each step of an answer, and made once."""
        return offering([message.as_message() for message in self.messages], self.tools, self.tool_choice)

    @model_validator(mode="after")
    def _has_calls_and_results_that_fit(self) -> ChatBody:
        offered = self.tools and self.tool_choice != "none"
        if offered and self.response_format is not None and self.response_format.as_text is not None:
            raise ValueError("response_format goes with tool_choice: none, where tools are given")
        choice_of(self.tool_choice, self.tools)
        _ = self.conversation  # calls and results fit, or this raises
        return self

    @model_validator(mode="after")
    def _asks_for_the_likeliest_with_logprobs(self) -> ChatBody:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def sampling(self) -> Sampling:
        """With what only conversations ask for."""
        schema = self.response_format.as_text if self.response_format else None
        asked = (self.top_logprobs or 0) if self.logprobs else None
        choice = choice_of(self.tool_choice, self.tools)
        wanted = {"logprobs": asked, "json_schema": schema, "tool_choice": choice, "one_call": self.parallel_tool_calls is False}
        return super().sampling.model_copy(update=wanted)

    @property
    def token_limit(self) -> int | None:
        """The newer name counts where both are given."""
        return self.max_completion_tokens or self.max_tokens


def parse_chat(body: bytes) -> ChatBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return CHAT_PARAMETERS.parse(ChatBody, body)
