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
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tailorbird.api import ClosingStream, unless_gone
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, Internal, InvalidInput, TailorbirdError, Unauthenticated, Unavailable
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import (
    QUESTIONS,
    Chunk,
    EmbedRequest,
    EngineDriver,
    EngineState,
    GenerateRequest,
    LabelScores,
    LiveEngine,
    LoadRequest,
    ProbeRequest,
    Question,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
    Told,
)
from tailorbird.processes.http_servers import Server, ended_by_signals, listen_privately
from tailorbird.processes.logs import AccessLog, LogFormat, set_up_logging
from tailorbird.system.process import exempt_present_objects
from tailorbird.usecases import Dependencies, admit


class AsyncEngine:
    """Asynchronous access to ``engine``. A step of the engine's thread has news for many callers, and wakes the event loop once."""

    def __init__(self, engine: LiveEngine) -> None:
        self._engine = engine
        self._news = deque[tuple[asyncio.Queue[Told], Told]]()
        self._woken: asyncio.AbstractEventLoop | None = None

    async def ask(self, request: Question[Any]) -> Any:
        """The answer to one question. Raises what the engine raises."""
        engine = self._engine
        match request:
            case ScoreRequest():
                async with self._begun(request) as news:
                    found = await news.get()
                if not isinstance(found, LabelScores):
                    raise _error(found)
                return found
            case GenerateRequest():
                return self._pieces(request)
            case RetrieveRequest():
                looked_up = await asyncio.to_thread(engine.retrieve, request.release, [request.text], request.groups, request.count)
                return looked_up[0]
            case RankRequest():
                return await asyncio.to_thread(engine.rank, request.release, request.text, request.documents, request.count)
            case EmbedRequest():
                return await asyncio.to_thread(engine.embed, request.release, request.texts)
            case ProbeRequest():
                return await asyncio.to_thread(engine.probe, request)
            case _:
                raise _malformed()

    async def _pieces(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        async with self._begun(request) as news:
            while True:
                piece = await news.get()
                if not isinstance(piece, Chunk):
                    raise _error(piece)
                yield piece
                if piece.finish_reason is not None:
                    return

    @asynccontextmanager
    async def _begun(self, request: ScoreRequest | GenerateRequest) -> AsyncIterator[asyncio.Queue[Told]]:
        """What the engine's thread says of a request, which is cancelled when nobody listens any more."""
        queue, loop, gone = asyncio.Queue[Told](), asyncio.get_running_loop(), False
        cancel: Callable[[], None] | None = None

        def tell(told: Told) -> bool:
            if not gone:
                self._news.append((queue, told))
                if self._woken is not loop:
                    self._woken = loop
                    loop.call_soon_threadsafe(self._deliver)
            return not gone

        def begin() -> Callable[[], None]:
            cancel = self._engine.submit(request, tell)
            # A caller who went while the request was begun is noticed here: nobody else would cancel it.
            if gone:
                cancel()
            return cancel

        try:
            cancel = await asyncio.to_thread(begin)
            yield queue
        finally:
            gone = True
            if cancel is not None:
                cancel()

    def _deliver(self) -> None:
        self._woken = None  # first: what is put from here on wakes the loop again
        while self._news:
            queue, told = self._news.popleft()
            queue.put_nowait(told)


def _error(told: Told) -> TailorbirdError:
    if isinstance(told, TailorbirdError):
        return told
    return Internal("the engine gave something else than was asked for", "look at its log", code="engine_defect")


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
        engine.close()

    expected = f"Bearer {secret}".encode()

    async def check(authorization: Annotated[str, Header()] = "") -> None:
        _check_secret(authorization, expected)

    app = FastAPI(title="tailorbird engine", openapi_url=None, lifespan=lifespan, dependencies=[Depends(check)])
    app.add_exception_handler(TailorbirdError, lambda _, error: _refusal(error))
    app.add_exception_handler(RequestValidationError, lambda _request, _error: _refusal(_malformed()))
    app.add_exception_handler(ClientDisconnect, lambda _request, _error: Response(status_code=499))
    app.add_middleware(AccessLog)

    @app.post("/load", status_code=204)
    async def load(request: LoadRequest) -> None:
        servable = await asyncio.to_thread(admit, request)
        if servable.hosted is not None and servable.retrieval is None:
            raise Conflict("this engine asks no endpoints", "the gateway does: let it load the release")
        await asyncio.to_thread(engine.load, servable, pinned=request.pinned)

    @app.post("/unload", status_code=204)
    async def unload(request: UnloadRequest) -> None:
        await asyncio.to_thread(engine.unload, request.release)

    @app.get("/status")
    async def status() -> EngineState:
        if engine.overdue():
            raise Unavailable("a step of the engine does not end", "the gateway restarts it by itself", code="engine_unavailable")
        return engine.state()

    @app.post("/generate")
    async def generate(body: GenerateRequest, request: Request) -> Response:
        lines = _lines(await front.ask(body))
        # The first line is awaited here, so that a refusal is a status and not half a stream.
        return ClosingStream(await unless_gone(request, anext(lines)), lines, "application/x-ndjson")

    # Before all others, and without what FastAPI does around a function: of short answers it was a quarter of what the event loop did.
    app.router.routes[:0] = (Route(path, endpoint=_QuestionEndpoint(front, expected, path), methods=["POST"]) for path in QUESTIONS)
    return app


class _QuestionEndpoint:
    """Answers one kind of question, as an ASGI application. ``path`` is what logs call it."""

    def __init__(self, front: AsyncEngine, expected: bytes, path: str) -> None:
        self._front, self._expected, self.path = front, expected, path
        self._kind, self._answers = QUESTIONS[path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the engine raises, InvalidInput (malformed), Unauthenticated, ClientDisconnect."""
        scope["route"], request = self, Request(scope, receive)
        _check_secret(request.headers.get("authorization", ""), self._expected)
        try:
            asked = self._kind.model_validate_json(await request.body())
        except ValidationError as error:
            raise _malformed() from error
        found = await unless_gone(request, self._front.ask(asked))
        await Response(self._answers.dump_json(found), media_type="application/json")(scope, receive, send)


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


def _check_secret(authorization: str, expected: bytes) -> None:
    """Raises Unauthenticated."""
    if not hmac.compare_digest(authorization.encode(), expected):
        raise Unauthenticated("this engine answers its own gateway only", "call the gateway", code="engine_secret")


def _refusal(error: Exception) -> Response:
    assert isinstance(error, TailorbirdError)
    return JSONResponse(_as_json(error), status_code=error.status)


def _malformed() -> InvalidInput:
    return InvalidInput("the engine was sent a malformed request", "use the driver of this version of tailorbird")


def _as_json(error: TailorbirdError) -> dict[str, object]:
    """The error as the gateway's driver makes it anew."""
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

    # Ends this process when the other end of standard input goes away: a gateway that was killed leaves no engine behind.
    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=wait, name="parent", daemon=True).start()
    serve_engine(deps.engine, partial(admit, deps), place, secret)


def serve_engine(open_engine: Callable[[], LiveEngine], admit: Callable[[LoadRequest], Servable], place: Path, secret: str) -> None:
    """Serves what ``open_engine`` opens on a Unix socket at ``place`` until SIGINT or SIGTERM. Raises Unavailable as ``run_engine``."""
    engine = open_engine()
    exempt_present_objects()
    with listen_privately(place) as listener:
        server = Server(engine_app(engine, admit, secret))

        async def serve() -> None:
            with ended_by_signals(server):
                await server.serve(sockets=[listener])

        asyncio.run(serve())


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
        driver: EngineDriver,
        tell: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = command
        self._secret = secret
        self._driver = driver
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
                    code="engine_unavailable",
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

    async def _answers(self) -> bool:
        try:
            await self._driver.status()
        except TailorbirdError:
            return False
        return True

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
        ended = asyncio.ensure_future(process.wait())
        while not (await asyncio.wait({ended}, timeout=_ASK_EVERY))[0]:
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
