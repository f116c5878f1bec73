"""Requests and answers of ``/v1`` in OpenAI's forms: chat, embeddings and rerank."""

from __future__ import annotations

import base64
import json
import re
import secrets
import struct
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tailorbird.api.http import explained, json_body, read_object, unknown
from tailorbird.api.request_record import RequestRecord
from tailorbird.chat.tool_calls import MOST_CALLS, MOST_TOOLS, linked, tool_calls, tool_names, tools_text, uses_tools
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.ports.engine import TokenChance
from tailorbird.serving.answers import AnswerPiece, Answers, AnswerService

#: No route knows so many parameters.
_MOST_PARAMETERS = 100

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


class AnswerFormatter:
    """Response format of a route. Routes that refuse ``stream`` have whole answers alone."""

    def whole(self, record: RequestRecord, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """The whole answer."""
        raise NotImplementedError

    def event(self, record: RequestRecord, piece: AnswerPiece, *, opening: bool) -> str:
        """A piece of the answer as an event; ``opening`` is its first."""
        raise NotImplementedError

    def ending(self, record: RequestRecord, *, usage: bool) -> str:
        """Last events of a stream, once the row is written; with ``usage``, which callers ask for, the token counts."""
        raise NotImplementedError


class ChatFormatter(AnswerFormatter):
    """``chat.completion``: one conversation, one message."""

    def whole(self, record: RequestRecord, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """A whole answer."""
        calls, text = _tool_calls(record, pieces[-1]), text_of(pieces)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        body = self._body(record, "chat.completion", "message", message | ({"tool_calls": calls} if calls else {}), pieces)
        return body | {"usage": _usage(record), "tailorbird": origin_of(record, pieces[-1])}

    def event(self, record: RequestRecord, piece: AnswerPiece, *, opening: bool) -> str:
        """The first event has the role, the last one the reason of the end."""
        delta: dict[str, Any] = {"role": "assistant"} if opening else {}
        calls = _tool_calls(record, piece)
        if piece.text or (opening and not calls):
            delta["content"] = piece.text
        if calls:
            delta["tool_calls"] = [{"index": place} | call for place, call in enumerate(calls)]
        body = self._body(record, "chat.completion.chunk", "delta", delta, [piece])
        return sse(body if piece.finish_reason is None else body | {"tailorbird": origin_of(record, piece)})

    def ending(self, record: RequestRecord, *, usage: bool) -> str:
        """The counts as an event without choices, where they were asked for, and OpenAI's mark."""
        counts = _frame(record, "chat.completion.chunk") | {"choices": [], "usage": _usage(record)}
        return (sse(counts) if usage else "") + "data: [DONE]\n\n"

    def _body(self, record: RequestRecord, kind: str, name: str, content: object, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        last = pieces[-1]
        end = "tool_calls" if last.tool_calls and last.finish_reason == "stop" else last.finish_reason
        choice = {"index": 0, name: content, "logprobs": _logprobs(pieces), "finish_reason": end}
        return _frame(record, kind) | {"choices": [choice]}


class RerankFormatter(AnswerFormatter):
    """``rerank``: documents in the order in which they answer the question: those of the release by id and title, or the caller's
    (``given``) by their places, with their texts where ``shown``."""

    def __init__(self, given: Sequence[str], *, shown: bool) -> None:
        self._given, self._shown = given, shown

    def whole(self, record: RequestRecord, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """All documents that were asked for."""
        results: list[dict[str, Any]] = []
        for place, one in enumerate(pieces[-1].ranking):
            if self._given:
                document: dict[str, Any] = {"document": {"text": self._given[int(one.id)]}} if self._shown else {}
                results.append({"index": int(one.id)} | document | {"relevance_score": one.score})
            else:
                results.append({"index": place, "document": {"id": one.id, "title": one.title}, "relevance_score": one.score})
        return _frame(record, "rerank") | {"results": results, "usage": _usage(record), "tailorbird": origin_of(record, pieces[-1])}


class EmbeddingFormatter(AnswerFormatter):
    """``list`` of ``embedding``: a vector a text, as numbers or as the base64 of their 32-bit little-endian form, which clients ask for."""

    def __init__(self, encoding: Literal["float", "base64"]) -> None:
        self._encoding = encoding

    def whole(self, record: RequestRecord, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """All vectors."""
        data = []
        for place, vector in enumerate(pieces[-1].vectors):
            packed = self._encoding == "base64"
            encoded = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else list(vector)
            data.append({"object": "embedding", "index": place, "embedding": encoded})
        usage = {"prompt_tokens": record.answer.prompt_tokens, "total_tokens": record.answer.prompt_tokens}
        return {"object": "list", "data": data, "model": record.alias, "usage": usage, "tailorbird": origin_of(record, pieces[-1])}


def text_of(pieces: Sequence[AnswerPiece]) -> str:
    """The text of an answer."""
    return "".join(piece.text for piece in pieces)


def origin_of(record: RequestRecord, last: AnswerPiece) -> dict[str, Any]:
    """Fields below ``tailorbird`` of an answer whose last piece is ``last``."""
    arm = record.given_by
    origin: dict[str, Any] = {"release": arm.release, "arm": arm.name} | ({"referred": True} if last.referred else {})
    origin |= {"out_of_scope": True} if last.out_of_scope else {}
    if last.passages:
        origin["passages"] = [{"id": one.id, "title": one.title} for one in last.passages]
    return origin if last.probabilities is None else origin | {"probabilities": last.probabilities}


def sse(body: dict[str, Any], event: str = "") -> str:
    """``body`` as a server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _tool_calls(record: RequestRecord, piece: AnswerPiece) -> list[dict[str, Any]]:
    """The calls of a piece, each with a name of its own by which its result is sent back."""
    return [
        {"id": f"call_{record.request_id}_{place}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for place, call in enumerate(piece.tool_calls)
    ]


def _frame(record: RequestRecord, kind: str) -> dict[str, Any]:
    return {"id": record.request_id, "object": kind, "created": record.created, "model": record.alias}


def _usage(record: RequestRecord) -> dict[str, Any]:
    answer = record.answer
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }


def _logprobs(pieces: Sequence[AnswerPiece]) -> dict[str, Any] | None:
    """Log-probabilities of tokens in OpenAI's form; None where there are none."""

    def one(chance: TokenChance) -> dict[str, Any]:
        return {"token": chance.token, "logprob": chance.logprob, "bytes": list(chance.bytes)}

    tokens = [one(chance) | {"top_logprobs": list(map(one, chance.top))} for piece in pieces for chance in piece.logprobs]
    return {"content": tokens, "refusal": None} if tokens else None


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
    #: Parameters that are known beside those that are honoured: ``neutral`` ones at values that ask for nothing, ``harmless`` ones change
    #: nothing.
    neutral: ClassVar[Neutral] = NEUTRAL
    harmless: ClassVar[frozenset[str]] = frozenset()
    #: What the route calls the form that an answer is to have.
    form: ClassVar[str] = "response_format"

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not supported."""
        fields = {}
        for name, value in read_object(body, cls.example).items():
            if name in cls.neutral:
                if not any(value == neutral and type(value) is type(neutral) for neutral in cls.neutral[name]):
                    message = f"the parameter {name} is not supported here"
                    raise InvalidInput(message, f"leave {name} out", code="unsupported_parameter", param=name)
            elif name not in cls.harmless:
                fields[name] = value
        if len(fields) > _MOST_PARAMETERS:  # a fault for each of a hundred thousand unknown ones would take a quarter of a second
            raise unknown(next(name for name in fields if name not in cls.model_fields)[:128], cls.model_fields)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise explained(error, cls.model_fields) from None

    @classmethod
    def described(cls) -> dict[str, Any]:
        """The body in OpenAPI."""
        body = json_body(cls)
        properties = body["content"]["application/json"]["schema"]["properties"]
        properties |= {name: {"enum": list(values)} for name, values in cls.neutral.items()} | {name: {} for name in sorted(cls.harmless)}
        return body

    def answers(self, service: AnswerService) -> Answers:
        """What ``service`` makes of the request: by default, what the release is there for."""
        return service.pieces

    @abstractmethod
    def formatter(self) -> AnswerFormatter:
        """The form of the answer."""

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


# Lists are left at their first fault: a body can hold as many as it has bytes, and only the first is reported.


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
    """A request with OpenAI's newer fields. ``safety_identifier`` keeps a user on one arm as ``user`` does."""

    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None

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
    neutral: ClassVar[Neutral] = {
        **NEUTRAL,
        "functions": (None, []),
        "function_call": (None, "none", "auto"),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "web_search_options": (None,),
        "reasoning_effort": (None, "none"),
        "verbosity": (None, "medium"),
    }
    harmless: ClassVar[frozenset[str]] = frozenset({"store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prediction"})

    def formatter(self) -> AnswerFormatter:
        """One conversation, one message."""
        return ChatFormatter()

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


#: Texts in one request at most.
MOST_TEXTS = 256


class EmbeddingBody(RequestBase):
    """An embeddings request, as far as it is honoured. Texts are strings; lists of tokens are refused, for whose tokens would they be?"""

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"

    example: ClassVar[str] = '{"model": ..., "input": "..."}'
    neutral: ClassVar[Neutral] = {"dimensions": (None,), "stream": (None, False)}

    def answers(self, service: AnswerService) -> Answers:
        """Vectors."""
        return service.vectors

    def formatter(self) -> AnswerFormatter:
        """Numbers, or their base64."""
        return EmbeddingFormatter(self.encoding_format)

    @property
    def conversation(self) -> tuple[Message, ...]:
        """All texts at once, each as a message: they are read together, and leave one row."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        return tuple(Message(role="user", content=text) for text in texts)

    @property
    def token_limit(self) -> int | None:
        """Nothing is written."""
        return 1


#: Documents that a request may bring, and that an answer may name of a release's own.
MOST_GIVEN, MOST_OWN = 256, 100
#: Documents of the release that are named where nobody says how many.
_OWN = 10


class TextDocument(StrictModel):
    """A document as Cohere and Jina also take it."""

    text: str


class RerankBody(RequestBase):
    """A ranking request, as far as it is honoured."""

    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | TextDocument], Field(min_length=1, max_length=MOST_GIVEN, fail_fast=True)] | None = None
    top_n: Annotated[int, Field(ge=1, le=MOST_GIVEN)] | None = None
    return_documents: bool | None = None

    example: ClassVar[str] = '{"model": ..., "query": "...", "documents": ["...", "..."]}'
    neutral: ClassVar[Neutral] = {
        **NEUTRAL,
        "stream": (None, False),
        "rank_fields": (None, [], ["text"]),
        "max_chunks_per_doc": (None,),
        "max_tokens_per_doc": (None,),
        "truncate_prompt_tokens": (None,),
    }
    harmless: ClassVar[frozenset[str]] = frozenset({"priority"})

    def answers(self, service: AnswerService) -> Answers:
        """The documents of the request ranked, or the release's own."""
        return partial(service.ranked, self.texts) if self.texts else service.pieces

    def formatter(self) -> AnswerFormatter:
        """Documents in order."""
        return RerankFormatter(self.texts, shown=self.return_documents is not False)

    @model_validator(mode="after")
    def _own_documents_are_named(self) -> RerankBody:
        if self.documents is None and self.return_documents:
            raise ValueError("return_documents goes with documents: those of a release are named, and not repeated")
        if self.documents is None and (self.top_n or 0) > MOST_OWN:
            raise ValueError(f"top_n is at most {MOST_OWN} where the documents of the release are ranked")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The documents to rank; none where those of the release are."""
        return tuple(each if isinstance(each, str) else each.text for each in self.documents or ())

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The question as a user's message, behind the documents: they are read, too."""
        return (*(Message(role="system", content=text) for text in self.texts), Message(role="user", content=self.query))

    @property
    def token_limit(self) -> int | None:
        """Documents take the place of tokens."""
        return self.top_n or (_OWN if self.documents is None else len(self.documents))
