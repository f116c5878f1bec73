"""Answer endpoint: authentication, quota reservation, the choice of a release, the answer whole or streamed, and the request record."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Send

from tailorbird.api.authentication import Authenticator, demand_stage
from tailorbird.api.errors import for_caller
from tailorbird.api.request_base import RequestBase
from tailorbird.api.request_context import EngineShare, current_call, read_body
from tailorbird.api.request_record import AnswerFacts, RecordingContext, RequestFacts, RequestRecord
from tailorbird.api.response_formats import AnswerFormatter, error_event
from tailorbird.domain.errors import InvalidInput, TailorbirdError
from tailorbird.domain.identity import Scope
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import REASONING_TOKENS, Message, PromptSpec, Sampling
from tailorbird.domain.quota import NOTHING, Amounts
from tailorbird.serving import (
    AliasRoute,
    AliasRoutes,
    AnswerPiece,
    Answers,
    AnswerService,
    LimitRemaining,
    ShadowedRequest,
    ShadowTraffic,
    TrafficArm,
    billed,
    with_fallback,
)
from tailorbird.text.tool_calls import uses_tools

T = TypeVar("T")


class ClosingStream(StreamingResponse):
    """A streaming response that closes its generator at once when the client leaves, not when the garbage collector finds it."""

    def __init__(self, first: str, rest: AsyncGenerator[str, None], media_type: str, headers: Mapping[str, str] | None = None) -> None:
        """``first`` was already taken from ``rest``: a generator that has begun runs its clean-up when it is closed, another does not."""
        self._rest = rest
        self._whole = _chained(first, rest)
        super().__init__(self._whole, media_type=media_type, headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Sends every piece; closes the generator however that ends."""
        async with aclosing(self._rest), aclosing(self._whole):
            await super().stream_response(send)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``. When the client leaves first, ``work`` is cancelled and ClientDisconnect raised.

    The body of ``request`` must have been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _chained(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    yield first
    async for piece in rest:
        yield piece


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


#: Bytes of a token, rather too few: what is reserved too much is given back a moment later.
_BYTES_PER_TOKEN = 3
#: Seconds for which a request waits for a release that is being loaded: adapters take less, large bases more.
_LOADING = 5.0
#: What limits are called in the headers of OpenAI's API.
_HEADERS = {"requests": "requests", "input_tokens": "tokens", "output_tokens": "output-tokens"}


def most_used(arm: TrafficArm, turns: Sequence[Message], sampling: Sampling) -> Amounts:
    """What answering is expected to read, and may write at most. A label is not written."""
    read = math.ceil((_bytes_of_prompt(arm.prompt) + sum(map(_bytes_of_turn, turns))) / _BYTES_PER_TOKEN)
    most = sampling.max_tokens + (REASONING_TOKENS if arm.prompt.thinking else 0)
    return Amounts(1, read, 0 if arm.task is TaskKind.CLASSIFY else most)


def limit_headers(left: Mapping[str, LimitRemaining]) -> dict[str, str]:
    """``x-ratelimit-limit-requests`` and its kin, for the limits that the tenant has in a minute."""
    told = {}
    for name, header in _HEADERS.items():
        if (found := left.get(name)) is not None:
            told[f"x-ratelimit-limit-{header}"] = f"{found.limit:.0f}"
            told[f"x-ratelimit-remaining-{header}"] = f"{found.left:.0f}"
            told[f"x-ratelimit-reset-{header}"] = f"{found.seconds:.3f}s"
    return told


def _bytes_of_turn(turn: Message) -> int:
    """Definitions and calls of functions are read like words."""
    calls = sum(len(call.name) + len(call.arguments.encode()) for call in turn.tool_calls)
    return len(turn.content.encode()) + len(turn.tools.encode()) + calls


def _bytes_of_prompt(prompt: PromptSpec) -> int:
    shown = sum(len(d.text.encode()) + len(d.target.encode()) for d in prompt.demonstrations)
    return len(prompt.instruction.encode()) + shown


@dataclass(frozen=True)
class AnswerContext:
    """Dependencies of the answer endpoints."""

    routes: AliasRoutes
    answering: AnswerService
    books: RecordingContext
    mirror: ShadowTraffic


def _pieces(answering: AnswerService, _body: RequestBase) -> Answers:
    return answering.pieces


@dataclass(frozen=True)
class RouteBehaviour:
    """Request parser and answer formatter of one route. ``answers`` says what is made of a question: by default, what the release is
    there for."""

    path: str
    parse: Callable[[bytes], RequestBase]
    wording: Callable[[RequestBase], AnswerFormatter]
    answers: Callable[[AnswerService, RequestBase], Answers] = _pieces


@dataclass(frozen=True)
class _Question:
    """A request that was understood and has somebody to answer it: the pieces of its answer."""

    body: RequestBase
    route: AliasRoute
    arm: TrafficArm
    wording: AnswerFormatter
    pieces: AsyncGenerator[AnswerPiece, None]


def answer_in(manner: RouteBehaviour, chat: AnswerContext, authenticate: Authenticator) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route. Errors leave as exceptions of our tree (see ``errors.py``)."""

    async def endpoint(request: Request) -> Response:
        call, key = current_call(request), await authenticate(request, Scope.ANSWER)
        account = RequestRecord(chat.books, call, key, manner.path)
        try:
            question = await _understand(chat, manner, request, account)
            if question.body.stream:
                return await _streamed(request, chat, account, question)
            return await _whole(request, chat, account, question)
        except TailorbirdError as error:
            account.fail(error)
            if (told := for_caller(error)) is error:
                raise
            raise told from error
        except (ClientDisconnect, asyncio.CancelledError):
            account.abort()
            raise
        except BaseException:
            account.close_as_defect()
            raise

    return endpoint


async def _understand(chat: AnswerContext, manner: RouteBehaviour, request: Request, account: RequestRecord) -> _Question:
    """Reads the body, finds the arm and reserves what the answer may use. A user is kept on one arm; requests without one are spread."""
    call, body = current_call(request), manner.parse(await read_body(request))
    demand_stage(account.key, body.model)
    route = await _route(chat, request, account, body)
    account.alias = route.alias.path
    arm = route.arm_for(body.keeps_to or call.id)
    turns, sampling = body.conversation, body.sampling.model_copy(update={"whole": not body.stream})
    _demand_written(arm, body, sampling)
    most = most_used(arm, turns, sampling)
    account.reserved = await chat.books.quotas.reserve(account.tenant, most, account.at, account.key)
    as_json = sampling.json_schema is not None
    account.answer = AnswerFacts(_user_text(turns), most.input_tokens, most.output_tokens, wants_json=as_json, turns=turns)
    account.answered_by(route, arm, RequestFacts(*body.segments(request.headers), route.unit(body.keeps_to)))
    engine = chat.books.engine if arm.hosted is None else EngineShare()  # this machine only waits
    made = manner.answers(chat.answering, body)
    account.when_written = partial(_mirror, chat, account, route, ShadowedRequest(turns, made, sampling, account.groups))
    if arm.hosted is not None:
        made = partial(with_fallback, made, whole=not body.stream)
    pieces = made(arm, turns, sampling, account.groups)
    if arm.hosted is not None:
        pieces = billed(account.answer.bill, pieces)
    return _Question(body, route, arm, manner.wording(body), call.timed(pieces, engine))


async def _route(chat: AnswerContext, request: Request, account: RequestRecord, body: RequestBase) -> AliasRoute:
    """The route of a tenant's model. A name whose first release is being loaded is waited for: whoever asks
    again and again takes from those whom the machine answers meanwhile. Who waits holds the requests that it is: where a limit leaves none,
    or the tenant is suspended, nothing is waited for, and no load hurried."""
    routes, tenant, model = chat.routes, account.tenant, body.model
    if routes.is_loading(tenant, model):
        waits = await chat.books.quotas.reserve(tenant, Amounts(1), account.at, account.key)
        try:
            with current_call(request).loading():
                await unless_gone(request, routes.until_loaded(model, _LOADING))
        finally:
            waits.settle(NOTHING)
    return routes.resolve(tenant, model)


def _demand_written(arm: TrafficArm, body: RequestBase, sampling: Sampling) -> None:
    """A label is scored, not written: it has probabilities of its own, and no other form. Raises InvalidInput."""
    asked = "logprobs" if sampling.logprobs is not None else body.form if sampling.json_schema is not None else None
    if uses_tools(body.conversation) and arm.task is not TaskKind.GENERATE:
        hint = "leave tools out, and messages that use them: this model answers with labels or documents"
        raise InvalidInput("tools are for a model that generates text", hint, code="unsupported_parameter", param="tools")
    if asked is not None and arm.task is TaskKind.CLASSIFY:
        hint = f"leave {asked} out: the probabilities of all labels stand under tailorbird"
        raise InvalidInput(
            f"the parameter {asked} is not supported by a model that classifies", hint, code="unsupported_parameter", param=asked
        )


def _user_text(conversation: Sequence[Message]) -> str:
    """What the answer is to: the user's last message."""
    return next((message.content for message in reversed(conversation) if message.role == "user"), "")


async def _whole(request: Request, chat: AnswerContext, account: RequestRecord, question: _Question) -> Response:
    pieces = await unless_gone(request, _collect(account, question.pieces))
    await account.succeed()
    return JSONResponse(question.wording.whole(account, account.given_by, pieces), headers=_headers(chat, account, account.given_by))


def _mirror(chat: AnswerContext, account: RequestRecord, route: AliasRoute, asked: ShadowedRequest) -> None:
    """Asks the release in the shadow, where there is one, the same, whether or not it was answered well. Of what a caller gave up nobody
    knows how it would have ended."""
    row = account.row
    if route.mirror is not None and row is not None and row.outcome != "aborted":
        chat.mirror.ask(route.mirror, asked, row, "".join(account.answer.given) if row.outcome == "ok" else "")


async def _collect(account: RequestRecord, pieces: AsyncGenerator[AnswerPiece, None]) -> list[AnswerPiece]:
    collected = []
    account.answer.asked = True
    async with aclosing(pieces):
        async for piece in pieces:
            account.answer.note(piece)
            collected.append(piece)
    return collected


async def _streamed(request: Request, chat: AnswerContext, account: RequestRecord, question: _Question) -> Response:
    events = _events(account, question)
    # The first event is awaited here, so that what fails before it fails with a status.
    first = await unless_gone(request, anext(events))
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"} | _headers(chat, account, account.given_by)
    return ClosingStream(first, events, "text/event-stream", headers)


async def _events(account: RequestRecord, question: _Question) -> AsyncGenerator[str, None]:
    """The answer as events. The row is committed before the first piece, and settled when the stream ends, however that is.

    An error before the first event is raised, a later one becomes the last event.
    """
    started = False
    account.answer.asked = True
    try:
        async with aclosing(question.pieces):
            async for piece in question.pieces:
                account.answer.note(piece)
                if not started:
                    await account.open()
                event = question.wording.event(account, account.given_by, piece, opening=not started)
                yield event
                started = True
        await account.succeed()
        yield question.wording.ending(account, account.given_by, usage=question.body.wants_usage)
    except TailorbirdError as error:
        account.fail(error)
        if not started:
            raise
        yield error_event(for_caller(error))
    except (GeneratorExit, asyncio.CancelledError):
        account.abort()
        raise
    finally:
        account.close_as_defect()


def _headers(chat: AnswerContext, account: RequestRecord, arm: TrafficArm) -> dict[str, str]:
    told = {"x-tailorbird-release": arm.release, "x-tailorbird-arm": arm.name} | limit_headers(
        chat.books.quotas.left(account.tenant, account.at, account.key)
    )
    return (
        told
        | ({"x-tailorbird-referred": "true"} if account.answer.referred else {})
        | ({"x-tailorbird-out-of-scope": "true"} if account.answer.out_of_scope else {})
    )
