"""Common fields of ``/v1`` request bodies, and the rules for parameters: honoured, ignored or refused."""

from __future__ import annotations

import re
import secrets
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tailorbird.api.openapi import json_body
from tailorbird.api.request_context import explained, read_object, unknown
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, Sampling

#: No route knows so many parameters.
_MOST_PARAMETERS = 100
#: What a channel or a language may be called.
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,32}")

#: What the type of a part may be called to be repeated.
_PART = re.compile(r"[a-z_]{1,40}")

Neutral = Mapping[str, tuple[Any, ...]]

#: Parameters of every route that would change the answer, and the values of each that ask for nothing.
NEUTRAL: Neutral = {
    "n": (None, 1),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
}


class StrictModel(BaseModel):
    """A part of a body: nothing unknown, no number that is none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def only_text_parts(content: Any, kinds: Collection[str] = ("text",)) -> Any:
    """The content of a message as it is. Raises ValueError for one with a part of another type: a picture, a sound, a file."""
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in kinds:
            named = f"of the type {kind} " if _PART.fullmatch(kind) else ""
            raise ValueError(f"a part {named}is not read: send what it shows or says as text")
    return content


class StreamOptions(StrictModel):
    """``include_usage`` asks for a last event with the token counts."""

    include_usage: bool = False
    include_obfuscation: bool = False


#: A stop string is looked for at each token.
_Stop = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
_Tokens = Annotated[int, Field(ge=1, lt=2**31)]


class RequestBase(StrictModel):
    """What every such request has. ``user`` keeps a user on one arm of a traffic split."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] | None = None
    user: str | None = None

    example: ClassVar[str] = '{"model": ...}'
    #: What the route calls the form that an answer is to have.
    form: ClassVar[str] = "response_format"

    @property
    @abstractmethod
    def conversation(self) -> tuple[Message, ...]:
        """The conversation to answer."""

    @property
    def token_limit(self) -> int | None:
        """Tokens of an answer at most, where the caller says so."""
        return self.max_tokens

    @property
    def keeps_to(self) -> str | None:
        """Key that keeps a caller on one arm."""
        return self.user

    def segments(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Channel and language of the message, as the caller says; empty where they are not said, or are no such names."""
        said = (headers.get("x-tailorbird-channel", ""), headers.get("x-tailorbird-language", ""))
        return _segment(said[0]), _segment(said[1])

    @property
    def wants_usage(self) -> bool:
        """True when a stream is to end with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def sampling(self) -> Sampling:
        """How to draw the answer. Greedy unless a temperature is given: what was measured is what is served."""
        temperature = self.temperature or 0.0
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        drawn = secrets.randbelow(2**31) if temperature > 0 else 0
        return Sampling(
            max_tokens=self.token_limit or Sampling().max_tokens,
            temperature=temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k or 0,
            seed=drawn if self.seed is None else self.seed,
            stop=stop,
        )


def _segment(said: object) -> str:
    return said.lower() if isinstance(said, str) and _SEGMENT.fullmatch(said) else ""


B = TypeVar("B", bound=RequestBase)


@dataclass(frozen=True)
class ParameterRules:
    """Parameters that a route knows beside those it honours: ``neutral`` ones may ask for nothing, ``harmless`` ones change nothing."""

    neutral: Neutral
    harmless: frozenset[str] = frozenset()

    def parse(self, kind: type[B], body: bytes) -> B:
        """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
        given = read_object(body, kind.example)
        asked = {name: value for name, value in given.items() if name not in self.harmless and not self._asks_nothing(name, value)}
        if len(asked) > _MOST_PARAMETERS:  # a fault for each of a hundred thousand unknown ones would take a quarter of a second
            raise unknown(next(name for name in asked if name not in kind.model_fields)[:128], kind.model_fields)
        try:
            return kind.model_validate(asked)
        except ValidationError as error:
            raise explained(error, kind.model_fields) from None

    def described(self, kind: type[RequestBase]) -> dict[str, Any]:
        """The body in OpenAPI."""
        body = json_body(kind)
        properties = body["content"]["application/json"]["schema"]["properties"]
        properties |= {name: {"enum": list(values)} for name, values in self.neutral.items()} | {name: {} for name in sorted(self.harmless)}
        return body

    def _asks_nothing(self, name: str, value: Any) -> bool:
        """True for a parameter at a value that changes nothing. Raises InvalidInput when it is known, at another value."""
        if name not in self.neutral:
            return False
        if any(value == neutral and type(value) is type(neutral) for neutral in self.neutral[name]):
            return True
        raise InvalidInput(f"the parameter {name} is not supported here", f"leave {name} out", code="unsupported_parameter", param=name)
