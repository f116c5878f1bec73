"""The body of a request in the form of OpenAI's responses API, without its state.

In: bytes. Out: a ``ResponseBody``, or InvalidInput that names the parameter. Must not know: HTTP, releases. No answer is kept, so that
what refers to an earlier one, or has this one kept, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tailorbird.api.asked import Asked, Strict, Words
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, Sampling

#: Parameters that ask for something to be kept or gone on with, and the values of each that do not.
_OF_STATE: Mapping[str, tuple[Any, ...]] = {
    "previous_response_id": (None,),
    "conversation": (None,),
    "background": (None, False),
    "store": (None, False),
}


class _Stateless(Words):
    """Refuses what needs state, and says so."""

    def _asks_nothing(self, name: str, value: Any) -> bool:
        if name in _OF_STATE and not any(value == nothing and type(value) is type(nothing) for nothing in _OF_STATE[name]):
            raise InvalidInput(
                f"{name} needs state, and this server keeps no responses",
                f"leave {name} out, and send the whole conversation as input",
                code="stateless",
                param=name,
            )
        return super()._asks_nothing(name, value)


WORDS = _Stateless(
    neutral={
        **_OF_STATE,
        "tools": (None, []),
        "tool_choice": (None, "none", "auto"),
        "max_tool_calls": (None,),
        "reasoning": (None, {}, {"effort": None}, {"effort": "none"}),
        "include": (None, []),
        "prompt": (None,),
        "truncation": (None, "disabled"),
        "top_logprobs": (None, 0),
        "context_management": (None,),
    },
    harmless=frozenset({"parallel_tool_calls", "service_tier", "prompt_cache_key", "prompt_cache_retention"}),
)


class ContentPart(Strict):
    """A part of a message; only text is understood. What an answer brought with it may be sent back."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = Field(default=None, max_length=0)
    logprobs: list[Any] | None = None


class InputMessage(Strict):
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


class TextFormat(Strict):
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


class TextWishes(Strict):
    """How the text is to be."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseBody(Asked):
    """A request for a response, as far as it is honoured. ``safety_identifier`` and ``metadata`` as in chat completions."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[InputMessage], Field(min_length=1, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    text: TextWishes | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None

    example: ClassVar[str] = '{"model": ..., "input": "..."}'
    form: ClassVar[str] = "text.format"

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """One conversation: the instructions, then the messages in our words."""
        told = (Message(role="system", content=self.instructions),) if self.instructions else ()
        turns = [Message(role="user", content=self.input)] if isinstance(self.input, str) else [one.as_message() for one in self.input]
        return ((*told, *turns),)

    @property
    def sampling(self) -> Sampling:
        """With the form of the answer."""
        schema = self.text.format.as_text if self.text and self.text.format else None
        return super().sampling.model_copy(update={"json_schema": schema})

    @property
    def token_limit(self) -> int | None:
        """As this form calls it."""
        return self.max_output_tokens or self.max_tokens

    def segments(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """As the metadata say; else as the headers do."""
        said = {f"x-tailorbird-{name}": value for name, value in (self.metadata or {}).items() if isinstance(value, str)}
        return super().segments(dict(headers) | said)

    @property
    def keeps_to(self) -> str | None:
        """The newer name counts where both are given."""
        return self.safety_identifier or self.user


def parse_response(body: bytes) -> ResponseBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, not honoured, or of state."""
    return WORDS.parse(ResponseBody, body)
