"""The body of a chat completion request: what is honoured, what is harmless, what is refused.

In: bytes. Out: a ``ChatBody``, or InvalidInput that names the parameter. A parameter that would change the answer and that we do not honour
is refused unless it has the value that asks for nothing; unknown ones are refused. Must not know: HTTP, releases.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.foundations.text import nearest

#: Parameters that would change the answer, and the values of each that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
}
#: Parameters that change nothing in the answer.
_HARMLESS = frozenset(
    {"metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls", "prediction"}
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(_Strict):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """One message. The empty fields are those with which clients send an assistant's message back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: None = None
    tool_calls: None = None
    function_call: None = None

    def as_message(self) -> Message:
        """The message in our words: ``developer`` is ``system``, parts are joined."""
        parts = self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content or "")]
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content="".join(part.text for part in parts))


class StreamOptions(_Strict):
    """``include_usage`` asks for a last event with the token counts."""

    include_usage: bool = False
    include_obfuscation: bool = False


_Stop = Annotated[str, StringConstraints(min_length=1)]


class ChatBody(_Strict):
    """A chat completion request, as far as it is honoured. ``user`` and ``safety_identifier`` keep a user on one arm of a traffic split."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] | None = None
    user: str | None = None
    safety_identifier: str | None = None

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages in our words."""
        return tuple(message.as_message() for message in self.messages)

    @property
    def sampling(self) -> Sampling:
        """How to draw the answer. Greedy unless a temperature is given: what was measured is what is served."""
        temperature = self.temperature or 0.0
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        drawn = secrets.randbelow(2**31) if temperature > 0 else 0
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or Sampling().max_tokens,
            temperature=temperature,
            top_p=self.top_p or 1.0,
            seed=drawn if self.seed is None else self.seed,
            stop=stop,
        )


def parse_chat(body: bytes) -> ChatBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    try:
        given = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}", "send one JSON object in UTF-8", code="invalid_json") from None
    if not isinstance(given, dict):
        raise InvalidInput("the body is not a JSON object", 'send an object: {"model": ..., "messages": [...]}', code="invalid_json")
    asked = {name: value for name, value in given.items() if name not in _HARMLESS and not _asks_nothing(name, value)}
    try:
        return ChatBody.model_validate(asked)
    except ValidationError as error:
        raise _explained(error) from None


def _asks_nothing(name: str, value: Any) -> bool:
    """True for a parameter at a value that changes nothing. Raises InvalidInput when it is known, at another value."""
    if name not in _NEUTRAL:
        return False
    if any(value == neutral and type(value) is type(neutral) for neutral in _NEUTRAL[name]):
        return True
    raise InvalidInput(f"the parameter {name} is not supported here", f"leave {name} out", code="unsupported_parameter", param=name)


def _explained(error: ValidationError) -> InvalidInput:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"])[:128]
    if first["type"] == "extra_forbidden":
        near = nearest(param, ChatBody.model_fields)
        hint = f"did you mean {near}?" if near else f"these are understood: {', '.join(ChatBody.model_fields)}"
        return InvalidInput(f"unknown parameter {param}", hint, code="unknown_parameter", param=param)
    code = "missing_parameter" if first["type"] == "missing" else "invalid_value"
    return InvalidInput(f"{param}: {first['msg']}", "correct this parameter and send the request again", code=code, param=param)
