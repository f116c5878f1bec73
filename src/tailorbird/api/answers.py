"""Routes of ``/v1``: authentication, quota, the choice of a release, the answer whole or streamed, and the request record."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from tailorbird.api.authentication import Authenticator, demand_stage
from tailorbird.api.errors import error_answers, error_body, for_caller
from tailorbird.api.http import API_KEY, ClosingStream, EngineShare, current_call, read_body, unless_gone
from tailorbird.api.openai import AnswerFormatter, ChatBody, EmbeddingBody, RequestBase, RerankBody, sse
from tailorbird.api.request_record import AnswerFacts, RecordingContext, RequestRecord
from tailorbird.api.responses import ResponseBody
from tailorbird.chat.tool_calls import uses_tools
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import InvalidInput, TailorbirdError
from tailorbird.domain.identity import NOTHING, Amounts, Scope
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import REASONING_TOKENS, Message, Sampling
from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, TrafficArm
from tailorbird.serving.answers import AnswerPiece, AnswerService, with_fallback
from tailorbird.serving.hosted_models import billed
from tailorbird.serving.shadow_traffic import ShadowedRequest, ShadowTraffic

#: Bytes of a token, rather too few: what is reserved too much is given back a moment later.
_BYTES_PER_TOKEN = 3
#: Seconds for which a request waits for a release that is being loaded: adapters take less, large bases more.
_LOADING = 5.0
#: What limits are called in the headers of OpenAI's API.
_HEADERS = {"requests": "requests", "input_tokens": "tokens", "output_tokens": "output-tokens"}


@dataclass(frozen=True)
class AnswerContext:
    """Dependencies of the answer endpoints."""

    routes: AliasRoutes
    answering: AnswerService
    books: RecordingContext
    mirror: ShadowTraffic


@dataclass(frozen=True)
class _Question:
    """A request that was understood and has somebody to answer it: the pieces of its answer."""

    body: RequestBase
    formatter: AnswerFormatter
    pieces: AsyncGenerator[AnswerPiece, None]


def model_routes(routes: AliasRoutes, authenticate: Authenticator) -> APIRouter:
    """The list of models, and one entry of it."""
    router = APIRouter(tags=["answer"], dependencies=API_KEY)

    def entry(alias: Alias) -> dict[str, Any]:
        return {"id": alias.path, "object": "model", "created": int(alias.moved_at.timestamp()), "owned_by": alias.tenant}

    @router.get(
        "/v1/models",
        operation_id="models.list",
        summary="List the models that answer this key.",
        description="The public names of the key's tenant that a release answers now, in OpenAI's shape.",
        responses=error_answers(401, 403, 429, 500, 503),
    )
    async def models(request: Request) -> JSONResponse:
        key = await authenticate(request, Scope.ANSWER)
        listed = [entry(route.alias) for route in routes.of(key.tenant) if route.alias.stage == "production"]
        return JSONResponse({"object": "list", "data": listed})

    @router.get(
        "/v1/models/{model:path}",
        operation_id="models.show",
        summary="Show one of them.",
        description="One public name: since when it answers, and whose it is. Names of other tenants are unknown.",
        responses=error_answers(401, 403, 404, 429, 500, 503),
        openapi_extra={"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]},
    )
    async def model(request: Request) -> JSONResponse:
        key = await authenticate(request, Scope.ANSWER)
        model = request.path_params["model"]
        demand_stage(key, model)
        return JSONResponse(entry(routes.resolve(key.tenant, model).alias))

    return router


#: Path, body, operation, summary and description of each endpoint.
_ENDPOINTS: tuple[tuple[str, type[RequestBase], str, str, str], ...] = (
    (
        "/v1/chat/completions",
        ChatBody,
        "chat.complete",
        "Answer a conversation.",
        "Answers the last message of the user, as OpenAI's chat completions do: a release that classifies with a label and its "
        "probabilities (under `tailorbird`), one that generates with text, whole or streamed. `model` is `TENANT/NAME` of an objective, or "
        "`TENANT/NAME@staging` for what is tried in staging, by keys with the scope `staging`.",
    ),
    (
        "/v1/responses",
        ResponseBody,
        "responses.create",
        "Answer in the form of OpenAI's newer API.",
        "The stateless form of OpenAI's responses: text or messages in, text and calls of functions out, whole or as events. Nothing is "
        "kept between requests, so that `previous_response_id`, `conversation`, `background` and `store: true` are refused.",
    ),
    (
        "/v1/rerank",
        RerankBody,
        "documents.rank",
        "Rank documents for a question.",
        "Ranks the `documents` that are sent (the shape of Cohere and Jina, which vLLM serves too) in the way in which the "
        "release ranks its own, or, without them, the release's own documents that the key may read. Scores can be compared within one "
        "answer, and with nothing else.",
    ),
    (
        "/v1/embeddings",
        EmbeddingBody,
        "texts.embed",
        "Texts as vectors, as a release that ranks documents reads them.",
        "Up to 256 texts as vectors of length 1, by the encoder that the release reads questions with.",
    ),
)
_EVENT = {
    "type": "object",
    "description": "One event of the stream: a chunk as JSON, an error, or [DONE] at the end.",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}


def chat_routes(context: AnswerContext, authenticate: Authenticator) -> APIRouter:
    """Routes of all answer endpoints."""
    #: An answer in OpenAI's form, or a stream of server-sent events.
    answers = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": _EVENT}}
    responses = error_answers(400, 401, 403, 404, 413, 429, 500, 503) | {200: {"content": answers}}
    router = APIRouter(tags=["answer"], dependencies=API_KEY, responses=responses)
    for path, body, operation, summary, description in _ENDPOINTS:
        router.add_api_route(
            path,
            _endpoint(path, body, context, authenticate),
            methods=["POST"],
            operation_id=operation,
            summary=summary,
            description=description,
            response_model=None,
            openapi_extra={"requestBody": body.described()},
        )
    return router


def _endpoint(
    path: str, kind: type[RequestBase], context: AnswerContext, authenticate: Authenticator
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route. Errors leave as exceptions of our tree (see ``errors.py``)."""

    async def endpoint(request: Request) -> Response:
        call, key = current_call(request), await authenticate(request, Scope.ANSWER)
        record = RequestRecord(context.books, call, key, path)
        try:
            question = await _understand(context, kind, request, record)
            if not question.body.stream:
                pieces = await unless_gone(request, _collect(record, question.pieces))
                await record.succeed()
                return JSONResponse(question.formatter.whole(record, pieces), headers=_headers(context, record))
            events = _events(record, question)
            # The first event is awaited here, so that what fails before it fails with a status.
            first = await unless_gone(request, anext(events))
            headers = {"cache-control": "no-cache", "x-accel-buffering": "no"} | _headers(context, record)
            return ClosingStream(first, events, "text/event-stream", headers)
        except TailorbirdError as error:
            record.fail(error)
            if (shown := for_caller(error)) is error:
                raise
            raise shown from error
        except (ClientDisconnect, asyncio.CancelledError):
            record.abort()
            raise
        except BaseException:
            record.close_as_defect()
            raise

    return endpoint


async def _understand(context: AnswerContext, kind: type[RequestBase], request: Request, record: RequestRecord) -> _Question:
    """Reads the body, finds the arm and reserves what the answer may use. A user is kept on one arm; requests without one are spread."""
    call, body = current_call(request), kind.parse(await read_body(request))
    demand_stage(record.key, body.model)
    route = await _route(context, request, record, body.model)
    record.alias = route.alias.path
    arm = route.arm_for(body.keeps_to or call.id)
    turns, sampling = body.conversation, body.sampling.model_copy(update={"whole": not body.stream})
    # A label is scored, not written: it has probabilities of its own, and no other form. Raises InvalidInput.
    if uses_tools(body.conversation) and arm.task is not TaskKind.GENERATE:
        hint = "leave tools out, and messages that use them: this model answers with labels or documents"
        raise InvalidInput("tools are for a model that generates text", hint, code="unsupported_parameter", param="tools")
    param = "logprobs" if sampling.logprobs is not None else body.form if sampling.json_schema is not None else None
    if param is not None and arm.task is TaskKind.CLASSIFY:
        message = f"the parameter {param} is not supported by a model that classifies"
        hint = f"leave {param} out: the probabilities of all labels stand under tailorbird"
        raise InvalidInput(message, hint, code="unsupported_parameter", param=param)
    most = most_used(arm, turns, sampling)
    record.reserved = await context.books.quotas.reserve(record.tenant, most, record.at, record.key)
    user_text = next((message.content for message in reversed(turns) if message.role == "user"), "")
    as_json = sampling.json_schema is not None
    record.answer = AnswerFacts(user_text, most.input_tokens, most.output_tokens, wants_json=as_json, turns=turns)
    record.answered_by(route, arm, route.unit(body.keeps_to))
    answers = body.answers(context.answering)
    shadowed = ShadowedRequest(turns, answers, sampling, record.groups)

    def mirror() -> None:
        """Asks the release in the shadow, where there is one, the same, whether or not it was answered well. Of what a caller gave up
        nobody knows how it would have ended."""
        row = record.row
        if route.mirror is not None and row is not None and row.outcome != "aborted":
            context.mirror.ask(route.mirror, shadowed, row, "".join(record.answer.given) if row.outcome == "ok" else "")

    record.when_written = mirror
    if arm.hosted is None:
        return _Question(body, body.formatter(), call.timed(answers(arm, turns, sampling, record.groups), context.books.engine))
    pieces = partial(with_fallback, answers, whole=not body.stream)(arm, turns, sampling, record.groups)
    # This machine only waits.
    return _Question(body, body.formatter(), call.timed(billed(record.answer.bill, pieces), EngineShare()))


async def _route(context: AnswerContext, request: Request, record: RequestRecord, model: str) -> AliasRoute:
    """The route of a tenant's model. A name whose first release is being loaded is waited for: whoever asks
    again and again takes from those whom the machine answers meanwhile. Who waits holds the requests that it is: where a limit leaves none,
    or the tenant is suspended, nothing is waited for, and no load hurried."""
    if context.routes.is_loading(record.tenant, model):
        waits = await context.books.quotas.reserve(record.tenant, Amounts(1), record.at, record.key)
        try:
            with current_call(request).loading():
                await unless_gone(request, context.routes.until_loaded(model, _LOADING))
        finally:
            waits.settle(NOTHING)
    return context.routes.resolve(record.tenant, model)


def most_used(arm: TrafficArm, turns: Sequence[Message], sampling: Sampling) -> Amounts:
    """What answering is expected to read, and may write at most. A label is not written; definitions and calls of functions are read like
    words."""
    read = len(arm.prompt.instruction.encode())
    read += sum(len(shown.text.encode()) + len(shown.target.encode()) for shown in arm.prompt.demonstrations)
    for turn in turns:
        read += len(turn.content.encode()) + len(turn.tools.encode())
        read += sum(len(call.name) + len(call.arguments.encode()) for call in turn.tool_calls)
    most = sampling.max_tokens + (REASONING_TOKENS if arm.prompt.thinking else 0)
    return Amounts(1, math.ceil(read / _BYTES_PER_TOKEN), 0 if arm.task is TaskKind.CLASSIFY else most)


async def _collect(record: RequestRecord, pieces: AsyncGenerator[AnswerPiece, None]) -> list[AnswerPiece]:
    collected = []
    record.answer.asked = True
    async with aclosing(pieces):
        async for piece in pieces:
            record.answer.note(piece)
            collected.append(piece)
    return collected


async def _events(record: RequestRecord, question: _Question) -> AsyncGenerator[str, None]:
    """The answer as events. The row is committed before the first piece, and settled when the stream ends, however that is.

    An error before the first event is raised, a later one becomes the last event.
    """
    started = False
    record.answer.asked = True
    try:
        async with aclosing(question.pieces):
            async for piece in question.pieces:
                record.answer.note(piece)
                if not started:
                    await record.open()
                event = question.formatter.event(record, piece, opening=not started)
                yield event
                started = True
        await record.succeed()
        yield question.formatter.ending(record, usage=question.body.wants_usage)
    except TailorbirdError as error:
        record.fail(error)
        if not started:
            raise
        yield sse(error_body(for_caller(error)))
    except (GeneratorExit, asyncio.CancelledError):
        record.abort()
        raise
    finally:
        record.close_as_defect()


def _headers(context: AnswerContext, record: RequestRecord) -> dict[str, str]:
    """Who answered, ``x-ratelimit-limit-requests`` and its kin for the limits in a minute, and what is left to people."""
    headers = {"x-tailorbird-release": record.given_by.release, "x-tailorbird-arm": record.given_by.name}
    limits = context.books.quotas.left(record.tenant, record.at, record.key)
    for name, header in _HEADERS.items():
        if (left := limits.get(name)) is not None:
            headers[f"x-ratelimit-limit-{header}"] = f"{left.limit:.0f}"
            headers[f"x-ratelimit-remaining-{header}"] = f"{left.left:.0f}"
            headers[f"x-ratelimit-reset-{header}"] = f"{left.seconds:.3f}s"
    if record.answer.referred:
        headers["x-tailorbird-referred"] = "true"
    if record.answer.out_of_scope:
        headers["x-tailorbird-out-of-scope"] = "true"
    return headers
