"""The body of a chat completion request.

In: bytes. Out: a ``ChatBody``, or InvalidInput that names the parameter. Must not know: HTTP, releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tailorbird.api.asked import NEUTRAL, Asked, Strict, Words
from tailorbird.domain.prompt import Message

WORDS = Words(
    neutral={
        **NEUTRAL,
        "tools": (None, []),
        "tool_choice": (None, "none", "auto"),
        "functions": (None, []),
        "function_call": (None, "none", "auto"),
        "logprobs": (None, False),
        "top_logprobs": (None, 0),
        "response_format": (None, {"type": "text"}),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "web_search_options": (None,),
        "reasoning_effort": (None, "none"),
        "verbosity": (None, "medium"),
    },
    harmless=frozenset({"store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls", "prediction"}),
)


class TextPart(Strict):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(Strict):
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


class ChatBody(Asked):
    """A chat completion request, as far as it is honoured. ``safety_identifier`` keeps a user on one arm as ``user`` does; ``channel`` and
    ``language`` in ``metadata`` divide reports."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None

    example: ClassVar[str] = '{"model": ..., "messages": [...]}'

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """One conversation: the messages in our words."""
        return (tuple(message.as_message() for message in self.messages),)

    @property
    def token_limit(self) -> int | None:
        """The newer name counts where both are given."""
        return self.max_completion_tokens or self.max_tokens

    def segments(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """As the metadata say; else as the headers do."""
        said = {f"x-tailorbird-{name}": value for name, value in (self.metadata or {}).items() if isinstance(value, str)}
        return super().segments(dict(headers) | said)

    @property
    def keeps_to(self) -> str | None:
        """The newer name counts where both are given."""
        return self.safety_identifier or self.user


def parse_chat(body: bytes) -> ChatBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return WORDS.parse(ChatBody, body)
