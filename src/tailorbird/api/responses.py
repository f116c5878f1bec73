"""Request body of the responses endpoint, OpenAI's newer API, in its stateless form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tailorbird.api.openai import (
    AnswerFormatter,
    AttributedRequest,
    NamedChoice,
    Neutral,
    StrictModel,
    ToolChoice,
    choice_of,
    offering,
    only_text_parts,
    origin_of,
    sse,
    text_of,
)
from tailorbird.api.request_record import RequestRecord
from tailorbird.chat.tool_calls import MOST_TOOLS, tool_calls, tools_text
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.serving.answers import AnswerPiece


class ContentPart(StrictModel):
    """A part of a message; only text is understood. What an answer brought with it may be sent back."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = Field(default=None, max_length=0)
    logprobs: list[Any] | None = None


class InputMessage(StrictModel):
    """A message of the conversation, in the form in which it is written or in that in which it was answered."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: str | None = None

    def as_message(self) -> Message:
        """The message in our words: ``developer`` is ``system``, parts are joined."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


_Status = Literal["in_progress", "completed", "incomplete"]


class InputCall(StrictModel):
    """A call that the assistant made, as it was answered."""

    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1)]
    name: str
    arguments: str
    id: str | None = None
    status: _Status | None = None


class InputResult(StrictModel):
    """What a function gave to a call."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1)]
    output: str | Annotated[list[ContentPart], Field(fail_fast=True)]
    id: str | None = None
    status: _Status | None = None

    def as_message(self) -> Message:
        """The result in our words."""
        text = self.output if isinstance(self.output, str) else "".join(part.text for part in self.output)
        return Message(role="tool", content=text, tool_call_id=self.call_id)


InputItem = InputMessage | InputCall | InputResult


def _texts_alone(given: Any) -> Any:
    """The input as it is. Raises ValueError for a message with a part that is no text."""
    for item in given if isinstance(given, list) else ():
        for key in ("content", "output"):
            only_text_parts(item.get(key) if isinstance(item, dict) else None, ("input_text", "output_text", "text"))
    return given


def turns_of(items: Sequence[InputItem]) -> list[Message]:
    """Items as turns: calls belong to the assistant's turn before them, or make one. Raises ToolFault, also where a turn has too many."""
    turns = list[Message]()
    for are_calls, run in groupby(items, key=lambda item: isinstance(item, InputCall)):
        if not are_calls:
            turns.extend(item.as_message() for item in run if not isinstance(item, InputCall))
            continue
        calls = tool_calls(
            [{"id": item.call_id, "name": item.name, "arguments": item.arguments} for item in run if isinstance(item, InputCall)]
        )
        if not turns or turns[-1].role != "assistant":
            turns.append(Message(role="assistant", content=""))
        turns[-1] = turns[-1].model_copy(update={"tool_calls": calls})
    return turns


def _definitions(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Raises ToolFault, which is a ValueError."""
    if any(tool.get("type") != "function" for tool in value):
        raise ValueError("only tools of the type function are supported: {type: function, name, description, parameters}")
    tools_text(_framed(value))
    return value


def _framed(tools: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Definitions as chat completions have them: in a frame. ``strict`` changes nothing."""
    return [{"type": "function", "function": {k: v for k, v in tool.items() if k not in ("type", "strict")}} for tool in tools or ()]


class NamedFunction(StrictModel):
    """Has the answer call this function."""

    type: Literal["function"]
    name: str


class TextFormat(StrictModel):
    """Text, any JSON object, or JSON that fits a schema; ``strict`` changes nothing: it always is."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64)] = ""
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> TextFormat:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema goes with the type json_schema, and with no other")
        return self

    @property
    def as_text(self) -> str | None:
        """The schema as the engine takes it; None for text."""
        if self.schema_ is not None:
            return json.dumps(self.schema_, ensure_ascii=False)
        return "{}" if self.type == "json_object" else None


class TextOptions(StrictModel):
    """How the text is to be."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseBody(AttributedRequest):
    """A request for a response, as far as it is honoured."""

    input: Annotated[
        Annotated[str, Field(min_length=1)] | Annotated[list[InputItem], Field(min_length=1, fail_fast=True)], BeforeValidator(_texts_alone)
    ]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MOST_TOOLS, fail_fast=True), AfterValidator(_definitions)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None

    example: ClassVar[str] = '{"model": ..., "input": "..."}'
    form: ClassVar[str] = "text.format"
    neutral: ClassVar[Neutral] = {
        # No responses are kept: what needs those of before is refused.
        "previous_response_id": (None,),
        "conversation": (None,),
        "background": (None, False),
        "store": (None, False),
        "max_tool_calls": (None,),
        "reasoning": (None, {}, {"effort": None}, {"effort": "none"}),
        "include": (None, []),
        "prompt": (None,),
        "truncation": (None, "disabled"),
        "top_logprobs": (None, 0),
        "context_management": (None,),
    }
    harmless: ClassVar[frozenset[str]] = frozenset({"service_tier", "prompt_cache_key", "prompt_cache_retention"})

    def formatter(self) -> AnswerFormatter:
        """One response; its events are numbered."""
        return ResponsesFormatter(self)

    @cached_property
    def conversation(self) -> tuple[Message, ...]:
        """The instructions, then the messages in our words. Made once."""
        instructions = (Message(role="system", content=self.instructions),) if self.instructions else ()
        turns = [Message(role="user", content=self.input)] if isinstance(self.input, str) else turns_of(self.input)
        return offering([*instructions, *turns], _framed(self.tools), self._choice)

    @property
    def _choice(self) -> ToolChoice | None:
        chosen = self.tool_choice
        return NamedChoice.named(chosen.name) if isinstance(chosen, NamedFunction) else chosen

    @model_validator(mode="after")
    def _has_calls_and_results_that_fit(self) -> ResponseBody:
        if self.tools and self.tool_choice != "none" and self._schema is not None:
            raise ValueError("text.format goes with tool_choice: none, where tools are given")
        choice_of(self._choice, _framed(self.tools))
        _ = self.conversation  # calls and results fit, or this raises
        return self

    @property
    def _schema(self) -> str | None:
        return self.text.format.as_text if self.text and self.text.format else None

    @property
    def sampling(self) -> Sampling:
        """With the form of the answer, and the choice among functions."""
        choice, one = choice_of(self._choice, _framed(self.tools)), self.parallel_tool_calls is False
        return super().sampling.model_copy(update={"json_schema": self._schema, "tool_choice": choice, "one_call": one})

    @property
    def token_limit(self) -> int | None:
        """As this form calls it."""
        return self.max_output_tokens or self.max_tokens


class ResponsesFormatter(AnswerFormatter):
    """``response``: one message with one text, then the calls of functions; without a text, the calls alone. Made for one request: events
    are numbered."""

    def __init__(self, body: ResponseBody) -> None:
        self._body = body
        self._number = 0
        self._pieces: list[AnswerPiece] = []
        self._writes = False

    def whole(self, record: RequestRecord, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """A whole answer."""
        status, own = "incomplete" if pieces[-1].finish_reason == "length" else "completed", record.request_id
        calls = [
            {
                "id": f"fc_{own}_{place}",
                "type": "function_call",
                "status": "completed",
                "call_id": f"call_{own}_{place}",
                "name": call.name,
                "arguments": call.arguments,
            }
            for place, call in enumerate(pieces[-1].tool_calls)
        ]
        text, answer = text_of(pieces), record.answer
        usage = {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        }
        message = [_message(record, status, [_part(text)])] if text or not calls else []
        origin = origin_of(record, pieces[-1])
        return self._frame(record, status) | {"output": [*message, *calls], "usage": usage, "tailorbird": origin}

    def event(self, record: RequestRecord, piece: AnswerPiece, *, opening: bool) -> str:
        """The first piece comes behind the events that open the response, the first text behind those that open message and text."""
        self._pieces.append(piece)
        events = ""
        if opening:
            begun = self._frame(record, "in_progress") | {"output": [], "usage": None}
            events = self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)
        if piece.text:
            events += self._message_opening(record)
            events += self._event("response.output_text.delta", **_PLACE, item_id=_item(record), delta=piece.text, logprobs=[])
        return events

    def ending(self, record: RequestRecord, *, usage: bool) -> str:
        """The events that close text and message, hold the calls and close the response, which always counts the tokens."""
        del usage
        text, response = text_of(self._pieces), self.whole(record, self._pieces)
        events = ""
        for place, item in enumerate(response["output"]):
            if item["type"] == "function_call":  # it comes whole: its arguments in one piece
                at = {"output_index": place, "item_id": item["id"]}
                begun = item | {"arguments": "", "status": "in_progress"}
                events += self._event("response.output_item.added", output_index=place, item=begun)
                events += self._event("response.function_call_arguments.delta", **at, delta=item["arguments"])
                events += self._event("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"])
            else:
                events += self._message_opening(record)
                events += self._event("response.output_text.done", **_PLACE, item_id=item["id"], text=text, logprobs=[])
                events += self._event("response.content_part.done", **_PLACE, item_id=item["id"], part=item["content"][0])
            events += self._event("response.output_item.done", output_index=place, item=item)
        return events + self._event(f"response.{response['status']}", response=response)

    def _message_opening(self, record: RequestRecord) -> str:
        """Nothing where the message is open."""
        if self._writes:
            return ""
        self._writes = True
        return self._event("response.output_item.added", output_index=0, item=_message(record, "in_progress", [])) + self._event(
            "response.content_part.added", **_PLACE, item_id=_item(record), part=_part("")
        )

    def _frame(self, record: RequestRecord, status: str) -> dict[str, Any]:
        body = self._body
        form, choice = body.text.format if body.text else None, body.tool_choice or "auto"
        return {
            "id": record.request_id,
            "object": "response",
            "created_at": record.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.token_limit,
            "metadata": body.metadata or {},
            "model": record.alias,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": body.tools or [],
            "top_p": body.top_p or 1.0,
            "truncation": "disabled",
        }

    def _event(self, kind: str, **fields: Any) -> str:
        event = sse({"type": kind, "sequence_number": self._number} | fields, kind)
        self._number += 1
        return event


#: Where the only text stands.
_PLACE = {"output_index": 0, "content_index": 0}


def _item(record: RequestRecord) -> str:
    return f"msg_{record.request_id}"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _message(record: RequestRecord, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": _item(record), "type": "message", "role": "assistant", "status": status, "content": content}
