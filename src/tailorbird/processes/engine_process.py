"""Engine process on a loopback port, and the supervisor that starts it, waits until it answers, and restarts it when it dies or hangs."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import stat
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
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
from tailorbird.domain.errors import Conflict, Internal, InvalidInput, TailorbirdError, Unauthenticated, Unavailable
from tailorbird.domain.prompt import RetrievedEntry
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import (
    Chunk,
    Embeddings,
    EmbedRequest,
    EngineState,
    GenerateRequest,
    LabelScores,
    LiveEngine,
    LoadRequest,
    ProbeRequest,
    Ranked,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
    Told,
)
from tailorbird.processes.http_servers import Server, ended_by_signals, listen_privately
from tailorbird.processes.logs import AccessLog, LogFormat, set_up_logging
from tailorbird.system.garbage_collection import exempt_present_objects
from tailorbird.usecases import Dependencies, admit


class AsyncEngine:
    """Asynchronous access to ``engine``."""

    def __init__(self, engine: LiveEngine) -> None:
        self._engine = engine
        self._mail = _Mail()

    @property
    def loaded(self) -> tuple[Digest, ...]:
        """Releases that the engine holds."""
        return self._engine.loaded()

    def state(self) -> EngineState:
        """State of the engine."""
        return self._engine.state()

    def check_gets_on(self) -> None:
        """Raises Unavailable when the engine's thread has hung. Waits for nothing."""
        if self._engine.overdue():
            raise Unavailable("a step of the engine does not end", "the gateway restarts it by itself", code="engine_hung")

    async def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """Loads ``servable`` while others are answered; of a hosted one what it looks up. Raises ModelInvalid, Corrupt, Conflict (one that
        looks nothing up)."""
        if servable.hosted is not None and servable.retrieval is None:
            raise Conflict("this engine asks no endpoints", "the gateway does: let it load the release", code="hosted_unserved")
        await asyncio.to_thread(self._engine.load, servable, pinned=pinned)

    async def unload(self, release: Digest) -> None:
        """Takes ``release`` out of service; it is freed when its last request has ended."""
        await asyncio.to_thread(self._engine.unload, release)

    async def score(self, request: ScoreRequest) -> LabelScores:
        """Scores one prompt. Raises what the engine raises."""
        async with _EngineCall(self._engine, self._mail, request) as told:
            found = await told.get()
        if not isinstance(found, LabelScores):
            raise _error(found)
        return found

    async def retrieve(self, request: RetrieveRequest) -> list[RetrievedEntry]:
        """Entries that a release retrieves for one text."""
        found = await asyncio.to_thread(self._engine.retrieve, request.release, [request.text], request.groups, request.count)
        return found[0]

    async def rank(self, request: RankRequest) -> Ranked:
        """The caller's documents in order."""
        return await asyncio.to_thread(self._engine.rank, request.release, request.text, request.documents, request.count)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Texts as vectors."""
        return await asyncio.to_thread(self._engine.embed, request.release, request.texts)

    async def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """How the answers to some prompts begin."""
        return await asyncio.to_thread(self._engine.probe, request)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """One answer as it comes, the last chunk with the counts; closing the iterator ends the generation."""
        async with _EngineCall(self._engine, self._mail, request) as told:
            while True:
                piece = await told.get()
                if not isinstance(piece, Chunk):
                    raise _error(piece)
                yield piece
                if piece.finish_reason is not None:
                    return

    def close(self) -> None:
        """Ends what is under way."""
        self._engine.close()


class _Mail:
    """What the engine's thread tells, on its way to the event loop: a step tells many callers, and the loop is woken once."""

    def __init__(self) -> None:
        self._told = deque[tuple[asyncio.Queue[Told], Told]]()
        self._called: asyncio.AbstractEventLoop | None = None

    def put(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Told], told: Told) -> None:
        """From any thread: ``told`` comes to ``queue``."""
        self._told.append((queue, told))
        if self._called is not loop:
            self._called = loop
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = None  # first: what is put from here on calls again
        while self._told:
            queue, told = self._told.popleft()
            queue.put_nowait(told)


class _EngineCall:
    """A request under way: what is told of it, and its end when nobody listens any more."""

    def __init__(self, engine: LiveEngine, mail: _Mail, request: ScoreRequest | GenerateRequest) -> None:
        self._engine, self._mail, self._request = engine, mail, request
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self._cancel: Callable[[], None] = _nothing

    async def __aenter__(self) -> asyncio.Queue[Told]:
        try:
            self._cancel = await asyncio.to_thread(self._begin)
        except BaseException:
            self._gone = True
            raise
        return self._told

    async def __aexit__(self, *_error: object) -> None:
        self._gone = True
        self._cancel()

    def _begin(self) -> Callable[[], None]:
        cancel = self._engine.submit(self._request, self._tell)
        # A caller who went while the request was begun is noticed here: nobody else would cancel it.
        if self._gone:
            cancel()
        return cancel

    def _tell(self, told: Told) -> bool:
        if not self._gone:
            self._mail.put(self._loop, self._told, told)
        return not self._gone


def _nothing() -> None:
    """There is nothing to cancel yet."""


def _error(told: Told) -> TailorbirdError:
    if isinstance(told, TailorbirdError):
        return told
    return Internal("the engine told something else than was asked", "look at its log", code="engine_defect")


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


#: The environment variable that carries the secret: an argument would show in the process list.
SECRET_VARIABLE = "TAILORBIRD_ENGINE_SECRET"


def take_secret() -> str:
    """The secret from the environment, taken out so that no child inherits it. Raises InvalidInput when there is none."""
    secret = os.environ.pop(SECRET_VARIABLE, "")
    if not secret:
        raise InvalidInput(f"{SECRET_VARIABLE} is not set", "the engine is started by: tailorbird serve", code="engine_secret")
    return secret


def run_engine(deps: Dependencies, place: Path, secret: str, log_format: LogFormat = "text") -> None:
    """Serves the engine on a Unix socket at ``place`` until SIGINT or SIGTERM, or until standard input, where it is a pipe, is closed.

    Raises Unavailable when the socket cannot be made or what the engine needs is not installed, Forbidden when others may enter its folder.
    """
    set_up_logging("engine", log_format)
    _end_with_parent()
    serve_engine(deps.engine, partial(admit, deps), place, secret)


def serve_engine(open_engine: Callable[[], LiveEngine], admit: Callable[[LoadRequest], Servable], place: Path, secret: str) -> None:
    """Serves what ``open_engine`` opens on a Unix socket at ``place`` until SIGINT or SIGTERM. Raises Unavailable as ``run_engine``."""
    # Before torch is imported: its threads would otherwise spin on a core that the next step needs (decision 0025).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    engine = open_engine()
    exempt_present_objects()
    with listen_privately(place) as listener:
        server = Server(engine_app(engine, admit, secret))

        async def serve() -> None:
            with ended_by_signals(server):
                await server.serve(sockets=[listener])

        asyncio.run(serve())


def _end_with_parent() -> None:
    """Ends this process when the other end of standard input goes away: a gateway that was killed leaves no engine behind."""
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_wait_for_parent, name="parent", daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


#: Seconds: the first pause before a dead engine is started again, the longest, and the run after which the pause is the first again.
_FIRST_PAUSE, _LONGEST_PAUSE, _STEADY_AFTER = 0.5, 30.0, 60.0
#: Attempts without ever an answer after which starting is given up: then it is not bad luck.
_ATTEMPTS = 3
#: Seconds an engine may take until it answers, and to end when it is asked.
_START_WITHIN, _END_WITHIN = 300.0, 10.0
_POLL = 0.1
#: Seconds between two questions whether it still gets on, and for which (and how often) the answer must be no until it is taken for hung:
#: a busy machine answers late, and another start costs the loading of every model.
_ASK_EVERY, _HUNG_AFTER, _NO_ANSWERS = 4.0, 15.0, 3


class Supervisor:
    """The engine process. ``tell`` is told, in sentences, what happens to it; ``changed`` is called when it begins or ceases to answer."""

    def __init__(
        self,
        command: Sequence[str],
        secret: str,
        answers: Callable[[], Awaitable[bool]],
        tell: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = command
        self._secret = secret
        self._answers = answers
        self._tell = tell
        self._changed = changed
        self._was_ready = False

    async def run(self) -> None:
        """Keeps the engine alive until cancelled, then ends it. Raises Unavailable when it never answers at all."""
        failures = 0
        while True:
            started = time.monotonic()
            code = await self._run_once()
            failures = 1 if time.monotonic() - started > _STEADY_AFTER else failures + 1
            if not self._was_ready and failures >= _ATTEMPTS:
                raise Unavailable(
                    f"the model process ended {failures} times before it answered (last status {code})",
                    "its own message stands above; most often a package is missing: pip install 'tailorbird[local]'",
                    code="engine_failed",
                )
            pause = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
            self._tell(f"the model process ended (status {code}); starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        """Starts the engine and returns its status when it has ended."""
        started = time.monotonic()
        # Its standard input stays open as long as this process lives; its output joins ours on standard error.
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=2, env=os.environ | {SECRET_VARIABLE: self._secret}, start_new_session=True
        )
        self._tell(f"starting the model process (pid {process.pid})")
        try:
            if await self._until_it_answers(process):
                self._was_ready = True
                self._tell(f"the model process answers after {time.monotonic() - started:.1f} s")
                self._changed()
                await self._until_it_hangs(process)
            return await process.wait()
        finally:
            await _end(process)
            self._changed()

    async def _until_it_answers(self, process: Process) -> bool:
        deadline = time.monotonic() + _START_WITHIN
        while process.returncode is None:
            if await self._answers():
                return True
            if time.monotonic() > deadline:
                self._tell(f"the model process did not answer within {_START_WITHIN:g} s")
                await _end(process)
                return False
            await asyncio.sleep(_POLL)
        return False

    async def _until_it_hangs(self, process: Process) -> None:
        """Returns when the process has ended; one that lives and no longer gets on is killed: it could not end itself."""
        first_no, count = 0.0, 0
        while not await _ended_within(process, _ASK_EVERY):
            asked = time.monotonic()
            if await self._answers():
                count = 0
                continue
            first_no, count = first_no if count else asked, count + 1
            if count >= _NO_ANSWERS and time.monotonic() - first_no >= _HUNG_AFTER and process.returncode is None:
                self._tell(f"the model process does not answer for {time.monotonic() - first_no:.0f} s; ending it")
                with suppress(ProcessLookupError):
                    process.kill()
                return


async def _ended_within(process: Process, seconds: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _end(process: Process) -> None:
    """Asks the process to end, and ends it when it does not."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _END_WITHIN)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.stdin is not None:
        process.stdin.close()
