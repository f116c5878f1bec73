"""``POST /v1/chat/completions``: who asks, what is asked, which release answers, the answer, the row.

In: HTTP requests. Out: OpenAI-compatible answers, whole or streamed. One path for both, so that both are recorded alike. Must not know:
engines, tables, how a label is scored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from tailorbird.api import reply
from tailorbird.api.account import Account, Books
from tailorbird.api.authentication import Authenticator
from tailorbird.api.body import read_body
from tailorbird.api.call import Call, current_call
from tailorbird.api.chat_body import ChatBody, parse_chat
from tailorbird.api.streaming import ClosingStream, unless_gone
from tailorbird.domain.errors import TailorbirdError
from tailorbird.serving import Answering, Arm, Piece, Routes

_PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Chat:
    """What answering a conversation needs."""

    routes: Routes
    answering: Answering
    books: Books


@dataclass(frozen=True)
class _Question:
    """A request that was understood and has somebody to answer it."""

    body: ChatBody
    arm: Arm
    pieces: AsyncGenerator[Piece, None]


def chat_routes(chat: Chat, authenticate: Authenticator) -> APIRouter:
    """The route. Errors leave as exceptions of our tree (see ``errors.py``)."""
    router = APIRouter()

    @router.post(_PATH, openapi_extra=_OPENAPI, summary="Answer a conversation")
    async def complete(request: Request) -> Response:
        call, key = current_call(request), await authenticate(request)
        account = Account(chat.books, call, key, _PATH)
        try:
            question = await _understand(chat, request, call, account)
            if question.body.stream:
                return await _streamed(request, account, question)
            return await _whole(request, account, question)
        except TailorbirdError as error:
            account.fail(error)
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            account.abort()
            raise
        except BaseException:
            account.close_as_defect()
            raise

    return router


async def _understand(chat: Chat, request: Request, call: Call, account: Account) -> _Question:
    """Reads the body and finds the arm. A user is kept on one arm; requests without a user are spread one by one."""
    body = parse_chat(await read_body(request))
    route = chat.routes.resolve(account.tenant, body.model)
    arm = route.arm_for(body.safety_identifier or body.user or call.id)
    account.answered_by(route, arm)
    return _Question(body, arm, call.timed(chat.answering.pieces(arm, body.conversation, body.sampling)))


async def _whole(request: Request, account: Account, question: _Question) -> Response:
    pieces = await unless_gone(request, _collect(account, question.pieces))
    await account.succeed()
    return JSONResponse(reply.completion(account, question.arm, pieces), headers=_headers(question.arm))


async def _collect(account: Account, pieces: AsyncGenerator[Piece, None]) -> list[Piece]:
    collected = []
    async with aclosing(pieces):
        async for piece in pieces:
            account.note(piece)
            collected.append(piece)
    return collected


async def _streamed(request: Request, account: Account, question: _Question) -> Response:
    events = _events(account, question)
    # The first event is awaited here, so that what fails before it fails with a status.
    first = await unless_gone(request, anext(events))
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"} | _headers(question.arm)
    return ClosingStream(first, events, "text/event-stream", headers)


async def _events(account: Account, question: _Question) -> AsyncGenerator[str, None]:
    """The answer as events. The row is committed before the stream ends well; a caller that leaves early leaves a row too.

    An error before the first event is raised, a later one becomes the last event.
    """
    started = False
    try:
        async with aclosing(question.pieces):
            async for piece in question.pieces:
                account.note(piece)
                yield reply.event(account, question.arm, piece, opening=not started)
                started = True
        await account.succeed()
        options = question.body.stream_options
        if options is not None and options.include_usage:
            yield reply.usage_event(account)
        yield reply.DONE
    except TailorbirdError as error:
        account.fail(error)
        if not started:
            raise
        yield reply.error_event(error)
    except (GeneratorExit, asyncio.CancelledError):
        account.abort()
        raise
    finally:
        account.close_as_defect()


def _headers(arm: Arm) -> dict[str, str]:
    return {"x-tailorbird-release": arm.release, "x-tailorbird-arm": arm.name}


_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ChatBody.model_json_schema()}}},
}
