"""Response schemas of ``/v1``: OpenAI's fields, and tailorbird's own under ``tailorbird``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class TokenUsage(BaseModel):
    """Tokens, as the engine counts them. A label is scored, not written, so it has no completion tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class NamedDocument(BaseModel):
    """A document of the release, or a passage of one."""

    id: str
    title: str


class AnswerOrigin(BaseModel):
    """Which release answered, on which arm of a traffic split; the probabilities of the labels where it classifies.

    ``referred`` is there where a person should look at the answer: the release is not sure enough, or hands the conversation over;
    ``out_of_scope`` where none of the labels fits: the answer is empty then, and a person receives the request;
    ``passages`` where some of its documents were quoted to the model: best first, and only such as the key may read.
    """

    release: str
    arm: str
    probabilities: dict[str, float] | None = None
    referred: bool = False
    out_of_scope: bool = False
    passages: list[NamedDocument] | None = None


class GivenDocument(BaseModel):
    """A document that the caller sent."""

    text: str


class RankedResult(BaseModel):
    """A document and how well it answers: scores of one answer can be compared with one another, and with nothing else.

    ``index`` is the place among the documents that the caller sent or, where those of the release are ranked, in the answer.
    """

    index: int
    document: NamedDocument | GivenDocument | None = None
    relevance_score: float


class Ranking(BaseModel):
    """Documents in order."""

    id: str
    object: Literal["rerank"]
    created: int
    model: str
    results: list[RankedResult]
    usage: TokenUsage
    tailorbird: AnswerOrigin


class EmbeddingUsage(BaseModel):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """A text as a vector of length 1; as base64 where that was asked for."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """Texts as vectors, in the order asked."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    tailorbird: AnswerOrigin


class CalledFunction(BaseModel):
    """A function and its arguments, a JSON object as text."""

    name: str
    arguments: str


class AnsweredCall(BaseModel):
    """A call; its result is sent back as a message of the role tool with this ``id``."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(BaseModel):
    """What is answered. ``tool_calls`` are there where functions are called."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[AnsweredCall] | None = None


class ChatChoice(BaseModel):
    """The only choice."""

    index: int
    message: AssistantMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """A whole answer to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    tailorbird: AnswerOrigin


class ModelEntry(BaseModel):
    """A public name that answers."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The public names that answer this key."""

    object: Literal["list"]
    data: list[ModelEntry]


class OutputText(BaseModel):
    """The text of an answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]


class OutputMessage(BaseModel):
    """What is answered."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["completed", "incomplete", "in_progress"]
    content: list[OutputText]


class OutputCall(BaseModel):
    """A function that the caller is asked to call; the result goes by ``call_id``."""

    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: Literal["completed", "incomplete", "in_progress"]


class ResponseUsage(BaseModel):
    """Tokens, as the engine counts them."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ModelResponse(BaseModel):
    """A whole answer in the form of OpenAI's newer API. Nothing of it is kept for a later request."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "in_progress"]
    error: None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, Any]
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[Any]
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    tailorbird: AnswerOrigin | None = None


_EVENT = {
    "type": "object",
    "description": "One event of the stream: a chunk as JSON, an error, or [DONE] at the end.",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}
#: A stream of server-sent events, as a route declares it.
STREAM: dict[str, Any] = {"text/event-stream": {"schema": _EVENT}}
