"""The gateway process: the public face, and beside it the engine process it keeps alive.

In: opened parts, a host and a port, the driver of the engine. Out: an application; a process that serves until it is told to end. No torch
is imported here. Must not know: models, how a release is verified.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from fastapi import FastAPI

from tailorbird import __version__, api
from tailorbird.app.servers import Server, ended_by_signals, free_port, listen
from tailorbird.app.supervisor import Supervisor
from tailorbird.lifecycle import Parts
from tailorbird.ports.clock import Clock
from tailorbird.ports.engine import EngineDriver
from tailorbird.ports.ledger import Ledger
from tailorbird.serving import Answering, Deployment, RequestJournal

#: How long what an alias left stays loaded, unless settings say otherwise.
KEEP_FORMER = timedelta(seconds=600)


def gateway_app(ledger: Ledger, clock: Clock, driver: EngineDriver, keep_former: timedelta = KEEP_FORMER) -> FastAPI:
    """The public application. It watches the record and writes rows while it runs, and writes the last rows before it ends."""
    deployment = Deployment(ledger, driver, clock, keep_former)
    journal = RequestJournal(ledger)
    metrics = api.Metrics()
    metrics.watch(deployment)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await journal.start()
        await deployment.start()
        try:
            yield
        finally:
            await deployment.stop()
            await journal.stop()

    app = FastAPI(title="tailorbird", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    authenticate = api.Authenticator(ledger, clock)
    answering = Answering(driver, deployment.routes, deployment.doubt)
    books = api.Books(journal, clock, metrics)
    app.include_router(api.chat_routes(api.Chat(deployment.routes, answering, books), authenticate))
    app.include_router(api.model_routes(deployment.routes, authenticate))
    app.include_router(api.health_routes(deployment))
    app.include_router(api.metrics_routes(metrics))
    api.add_error_handlers(app)
    app.add_middleware(api.Observed, metrics=metrics)
    return app


def run_gateway(
    parts: Parts,
    host: str,
    port: int,
    open_driver: Callable[[str, str], EngineDriver],
    engine_command: Callable[[int], Sequence[str]] | None = None,
    keep_former: timedelta = KEEP_FORMER,
) -> None:
    """Serves until SIGINT or SIGTERM; then requests in flight end, rows are written, the engine is ended.

    ``engine_command`` gives the engine's command line for a port (default: ``tailorbird engine`` on this workspace). Port 0 lets the system
    choose. Raises Unavailable: the port is in use (before anything starts), the engine never answers.
    """
    with listen(host, port) as listener:
        engine_port, secret = free_port(), secrets.token_urlsafe(32)
        command = (engine_command or _own_engine(parts))(engine_port)

        async def serve() -> None:
            driver = open_driver(f"http://127.0.0.1:{engine_port}", secret)
            server = Server(gateway_app(parts.ledger, parts.clock, driver, keep_former))
            _tell(f"serving on http://{host}:{listener.getsockname()[1]} (ready when /readyz says so); end it with Ctrl-C")
            try:
                with ended_by_signals(server):
                    serving = asyncio.create_task(server.serve(sockets=[listener]))
                    await _beside(serving, server, Supervisor(command, secret, driver.ready, _tell))
            finally:
                await driver.close()

        asyncio.run(serve())


async def _beside(serving: asyncio.Task[None], server: Server, supervisor: Supervisor) -> None:
    """Runs server and engine side by side; when one ends, so does the other, the engine last."""
    keeping = asyncio.create_task(supervisor.run())
    await asyncio.wait({serving, keeping}, return_when=asyncio.FIRST_COMPLETED)
    server.end() if not serving.done() else None
    await serving
    if keeping.done():
        keeping.result()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


def _own_engine(parts: Parts) -> Callable[[int], Sequence[str]]:
    workspace = str(parts.workspace)
    return lambda port: [sys.executable, "-m", "tailorbird.cli.main", "engine", "--port", str(port), "--workspace", workspace]


def _tell(sentence: str) -> None:
    sys.stderr.write(f"tailorbird: {sentence}\n")
    sys.stderr.flush()
