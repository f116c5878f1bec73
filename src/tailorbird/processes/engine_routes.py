"""HTTP routes of the engine process, for the gateway on the same machine."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tailorbird.api import ClosingStream, unless_gone
from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import InvalidInput, TailorbirdError, Unauthenticated
from tailorbird.domain.retrieval import RetrievedEntry
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import (
    Chunk,
    Embeddings,
    EmbedRequest,
    EngineState,
    GenerateRequest,
    LiveEngine,
    LoadRequest,
    ProbeRequest,
    Ranked,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
)
from tailorbird.processes.async_engine import AsyncEngine
from tailorbird.processes.logs import AccessLog

_SCORE = "/score"


class UnloadRequest(Value):
    """Asks to free a release."""

    release: Digest


def engine_app(engine: LiveEngine, admit: Callable[[LoadRequest], Servable], secret: str) -> FastAPI:
    """The engine's application.

    ``admit`` finds and verifies a release, and runs in a thread of its own.
    """
    front = AsyncEngine(engine)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        front.close()

    app = FastAPI(title="tailorbird engine", openapi_url=None, lifespan=lifespan, dependencies=[Depends(_gate(secret))])
    app.add_exception_handler(TailorbirdError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_malformed)
    app.add_exception_handler(ClientDisconnect, _nobody_waits)
    app.add_middleware(AccessLog)
    app.include_router(_release_routes(front, admit))
    app.include_router(_answer_routes(front))
    # Before all others, and without what FastAPI does around a function: of short answers it was a quarter of what the event loop did.
    app.router.routes.insert(0, Route(_SCORE, endpoint=_ScoreEndpoint(front, secret), methods=["POST"]))
    return app


def _release_routes(front: AsyncEngine, admit: Callable[[LoadRequest], Servable]) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        front.check_gets_on()
        return {"status": "ok"}

    @router.post("/load", status_code=204)
    async def load(request: LoadRequest) -> None:
        servable = await asyncio.to_thread(admit, request)
        await front.load(servable, pinned=request.pinned)

    @router.post("/unload", status_code=204)
    async def unload(request: UnloadRequest) -> None:
        await front.unload(request.release)

    @router.get("/loaded")
    async def loaded() -> tuple[Digest, ...]:
        return front.loaded

    @router.get("/state")
    async def state() -> EngineState:
        return front.state()

    return router


class _ScoreEndpoint:
    """Label scores of one prompt, as an ASGI application. ``path`` is what logs call it."""

    path = _SCORE

    def __init__(self, front: AsyncEngine, secret: str) -> None:
        self._front, self._expected = front, _expected(secret)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the engine raises, InvalidInput (malformed), Unauthenticated, ClientDisconnect."""
        scope["route"], request = self, Request(scope, receive)
        _check_secret(request.headers.get("authorization", ""), self._expected)
        try:
            asked = ScoreRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise _malformed() from error
        found = await unless_gone(request, self._front.score(asked))
        await Response(found.model_dump_json(), media_type="application/json")(scope, receive, send)


def _answer_routes(front: AsyncEngine) -> APIRouter:
    router = APIRouter()

    @router.post("/retrieve")
    async def retrieve(body: RetrieveRequest, request: Request) -> list[RetrievedEntry]:
        return await unless_gone(request, front.retrieve(body))

    @router.post("/rank")
    async def rank(body: RankRequest, request: Request) -> Ranked:
        return await unless_gone(request, front.rank(body))

    @router.post("/embed")
    async def embed(body: EmbedRequest, request: Request) -> Embeddings:
        return await unless_gone(request, front.embed(body))

    @router.post("/probe")
    async def probe(body: ProbeRequest) -> list[TokenChances]:
        return await front.probe(body)

    @router.post("/generate")
    async def generate(body: GenerateRequest, request: Request) -> Response:
        lines = _lines(front.stream(body))
        # The first line is awaited here, so that a refusal is a status and not half a stream.
        return ClosingStream(await unless_gone(request, anext(lines)), lines, "application/x-ndjson")

    return router


async def _lines(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[str, None]:
    """Chunks as lines of JSON. An error before the first line is raised, a later one is the last line."""
    started = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk.model_dump_json() + "\n"
                started = True
    except TailorbirdError as error:
        if not started:
            raise
        yield json.dumps({"error": _as_json(error)}) + "\n"


def _gate(secret: str) -> Callable[[str], Coroutine[None, None, None]]:
    expected = _expected(secret)

    async def check(authorization: Annotated[str, Header()] = "") -> None:
        _check_secret(authorization, expected)

    return check


def _expected(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def _check_secret(authorization: str, expected: bytes) -> None:
    """Raises Unauthenticated."""
    if not hmac.compare_digest(authorization.encode(), expected):
        raise Unauthenticated("this engine answers its own gateway only", "call the gateway", code="engine_secret")


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TailorbirdError)
    return JSONResponse(_as_json(error), status_code=error.status)


async def _refuse_malformed(request: Request, _error: Exception) -> Response:
    return await _refuse(request, _malformed())


def _malformed() -> InvalidInput:
    return InvalidInput("the engine was sent a malformed request", "use the driver of this version of tailorbird")


async def _nobody_waits(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


def _as_json(error: TailorbirdError) -> dict[str, str]:
    return {"kind": type(error).__name__, **error.as_dict()}
