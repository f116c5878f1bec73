"""Gateway process: public HTTP server, its own origins, and the engine process beside it.

What a request says of the host that it is for proves nothing: whoever passes a login on writes there what he likes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from tailorbird import __version__, api, console
from tailorbird.auth.request_checks import origin_of
from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.engine import EngineDriver
from tailorbird.processes.engine_process import Supervisor
from tailorbird.processes.http_servers import (
    LONGEST_SOCKET,
    Server,
    Tls,
    check_proxies,
    connection_limits,
    ended_by_signals,
    is_every_address,
    is_open,
    listen,
)
from tailorbird.processes.logs import AccessLog, LogFormat, set_up_logging
from tailorbird.processes.worker import Schedule, gateway_schedules, run_schedules
from tailorbird.serving.answers import AnswerService
from tailorbird.serving.effect_checks import EffectChecks
from tailorbird.serving.engine_replicas import EngineReplicas
from tailorbird.serving.hosted_models import HostedAccess, HostedDriver
from tailorbird.serving.quotas import Quotas
from tailorbird.serving.reconciler import Reconciler
from tailorbird.serving.request_log import RequestLog
from tailorbird.serving.shadow_traffic import ShadowTraffic
from tailorbird.system.background_loop import BackgroundLoop
from tailorbird.system.process import exempt_present_objects
from tailorbird.usecases import Dependencies
from tailorbird.usecases.audit_events import tell_denials
from tailorbird.usecases.endpoints import served_endpoint
from tailorbird.usecases.maintenance.audit import Notice
from tailorbird.usecases.maintenance.health import WorkspaceHealth, examine
from tailorbird.usecases.releases.load_verification import RecordedProofs, admit_hosted
from tailorbird.usecases.releases.rollouts import count_rollouts
from tailorbird.usecases.sessions import LoginEntry

_log = logging.getLogger("tailorbird.health")

#: Seconds between two looks, and after which a look that has not ended means that the record is locked or its server silent.
_LOOK_EVERY, _STALE_AFTER = 3.0, 10.0

_UNKNOWN = WorkspaceHealth(writable=False, notices=(Notice(code="starting", text="the workspace was not looked at yet"),))
_SILENT = WorkspaceHealth(writable=False, notices=(Notice(code="record_silent", text="the record did not answer for a while"),))


class HealthMonitor:
    """Looks between ``start`` and ``stop``, in a thread: a look may wait for the record."""

    def __init__(self, deps: Dependencies) -> None:
        self._deps = deps
        self._seen, self._at = _UNKNOWN, time.monotonic()
        self.loop = BackgroundLoop("health of the workspace", self._look, _LOOK_EVERY)

    async def start(self) -> None:
        """Begins to look; returns at once."""
        self.loop.start()

    async def stop(self) -> None:
        """Ends the looking."""
        await self.loop.stop()

    def condition(self) -> WorkspaceHealth:
        """Latest health; when that is old, that the ledger does not answer."""
        return self._seen if time.monotonic() - self._at < _STALE_AFTER else _SILENT

    async def _look(self) -> None:
        before, self._seen = self._seen, await asyncio.to_thread(examine, self._deps)
        self._at = time.monotonic()
        _tell(before, self._seen)


def _tell(before: WorkspaceHealth, now: WorkspaceHealth) -> None:
    """Says what is new, and what is over."""
    known, found = ({(notice.code, notice.tenant) for notice in seen.notices} for seen in (before, now))
    for notice in now.notices:
        if (notice.code, notice.tenant) not in known:
            _log.warning("%s: %s", notice.code, notice.text)
    over = {f"{code} of {tenant}" if tenant else code for code, tenant in known - found}
    for what in sorted(over - {"starting"}):
        _log.info("%s: no longer", what)


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def own_origins(host: str, port: int, tls: Tls | None, public_urls: Sequence[str]) -> frozenset[str]:
    """The origins of a server on ``host``; one that listens on every address is known on loopback and by its certificate's names."""
    scheme = "https" if tls else "http"
    here = _LOOPBACK if is_every_address(host) or not is_open(host) else (host,)
    named = {f"{scheme}://{_bracketed(name)}:{port}" for name in (*here, *(tls.names() if tls else ()))}
    return frozenset(map(origin_of, (*named, *public_urls)))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


#: How long what an alias left stays loaded, unless settings say otherwise.
KEEP_FORMER = timedelta(seconds=600)
#: Bytes that a folder and a socket in it add to the path.
_FOLDER_AND_SOCKET = len("/tailorbird-12345678/engine.sock")
#: How often it is looked whether the certificate was renewed.
_RENEW_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Listening:
    """Where the gateway listens (port 0: the system chooses), how it is encrypted, whose forwarded headers it believes, what other
    addresses it is known by, how it logs."""

    host: str = "127.0.0.1"
    port: int = 8080
    tls: Tls | None = None
    trusted_proxies: tuple[str, ...] = ()
    public_urls: tuple[str, ...] = ()
    log_format: LogFormat = "text"


def gateway_app(
    deps: Dependencies,
    drivers: Sequence[EngineDriver],
    keep_former: timedelta = KEEP_FORMER,
    servers: Container[str] = frozenset(),
    addresses: Sequence[str] = ("",),
) -> FastAPI:
    """The public application over one engine, or replicas at ``addresses``, known by the origins ``servers``. It watches the record and
    writes rows while it runs, and writes the last rows before it ends."""
    quotas = Quotas(deps.ledger, deps.clock)
    checks = [EffectChecks(driver, RecordedProofs(deps)) for driver in drivers]
    engine = EngineReplicas(dict(zip(addresses, checks, strict=True))) if len(checks) > 1 else checks[0]
    access = HostedAccess(admit=partial(admit_hosted, deps), endpoint=partial(served_endpoint, deps), client=deps.endpoint_client)
    driver = HostedDriver(engine, access)
    deployment = Reconciler(deps.ledger, driver, deps.clock, keep_former, quotas.gateway)
    journal = RequestLog(deps.ledger, gateway=quotas.gateway, redact=deps.redact)
    health, mirror = HealthMonitor(deps), ShadowTraffic(journal)
    loops = (*journal.loops, quotas.loop, *deployment.loops, health.loop)
    metrics = api.Metrics()
    metrics.watch(deployment, driver.circuits, mirror, checks)
    metrics.watch_loops(loops)
    answering = AnswerService(driver, deployment.routes, deployment.doubt)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        for begun in (journal, quotas, deployment, health):
            await begun.start()
        try:
            yield
        finally:
            for ended in (mirror, health, deployment, quotas, journal):
                await ended.stop()
            await driver.close_endpoints()

    app = FastAPI(title="tailorbird", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    authenticate = api.Authenticator(deps.ledger, deps.clock)
    books = api.RecordingContext(journal, deps.clock, metrics, quotas, deps.prices, refusals=deps.denials)
    app.state.doubt, app.state.metrics = deployment.doubt, metrics
    app.include_router(api.chat_routes(api.AnswerContext(deployment.routes, answering, books, mirror), authenticate))
    app.include_router(api.model_routes(deployment.routes, authenticate))
    entrance = LoginEntry(deps, servers)
    app.include_router(api.control_routes(entrance))
    app.include_router(api.health_routes(deployment, health.condition, entrance, loops))
    app.include_router(api.metrics_routes(metrics, partial(count_rollouts, deps)))
    app.include_router(console.console_routes(entrance))
    app.add_api_route("/", lambda: RedirectResponse("/console", 303), include_in_schema=False)
    api.add_error_handlers(app)
    app.add_middleware(AccessLog)
    app.add_middleware(api.RequestObserver, metrics=metrics)
    return app


def run_gateway(
    deps: Dependencies,
    listening: Listening,
    open_driver: Callable[[str, str], EngineDriver],
    engine_command: Callable[[Path], Sequence[str]] | None = None,
    keep_former: timedelta = KEEP_FORMER,
    replicas: Mapping[str, EngineDriver] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; then requests in flight end, rows are written, the engine is ended.

    ``engine_command`` gives the command line of the engine process for the place of its socket (default: ``tailorbird engine`` on this
    workspace); there is no such process where ``replicas`` of an engine, by address, are kept alive by somebody else. Raises Unavailable:
    the port is in use (before anything starts), the engine never answers; InvalidInput for a proxy or an address that is none.
    """
    set_up_logging("gateway", listening.log_format)
    check_proxies(listening.trusted_proxies)
    for url in listening.public_urls:
        origin_of(url)
    # In a folder of its own that only this user may enter: nobody else can answer in the engine's place while it is away.
    with (
        listen(listening.host, listening.port) as listener,
        TemporaryDirectory(prefix="tailorbird-", dir=socket_folder()) as folder,
    ):
        secret, place = secrets.token_urlsafe(32), Path(folder) / "engine.sock"
        command = (engine_command or _own_engine(deps, listening.log_format))(place)
        known_as = own_origins(listening.host, listener.getsockname()[1], listening.tls, listening.public_urls)

        async def serve() -> None:
            drivers = replicas or {"": open_driver(f"unix:{place}", secret)}
            try:
                app = gateway_app(deps, tuple(drivers.values()), keep_former, known_as, tuple(drivers))
                engine = None if replicas else Supervisor(command, secret, drivers[""], _log.info, app.state.doubt)
                await _serve(deps, listening, listener, app, engine)
            finally:
                await asyncio.gather(*(driver.close() for driver in drivers.values()))

        asyncio.run(serve())


def socket_folder() -> str:
    """Where folders of sockets lie: among temporary files, or in ``/tmp`` where a socket's path would be too long there."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) + _FOLDER_AND_SOCKET <= LONGEST_SOCKET else "/tmp"


async def _serve(deps: Dependencies, listening: Listening, listener: socket.socket, app: FastAPI, engine: Supervisor | None) -> None:
    """Serves ``app`` until it is told to end, with its chores and its engine process."""
    server = Server(app, listening.tls, listening.trusted_proxies, connection_limits())
    exempt_present_objects()
    port = listener.getsockname()[1]
    announce(listening, port)
    chores = [*gateway_schedules(deps), Schedule("certificate", _RENEW_EVERY, server.renew_certificate)]
    app.state.metrics.watch_loops(chores)
    with ended_by_signals(server), run_schedules(chores):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await (_beside(serving, server, engine) if engine else serving)
    try:
        tell_denials(deps, all_of_them=True)
    except TailorbirdError as error:
        _log.warning("denials that were only counted could not be written: %s", error)
    _log.info("ended")


async def _beside(serving: asyncio.Task[None], server: Server, engine: Supervisor) -> None:
    """Runs the server and its engine process side by side; when the engine is given up, both end, the engine last."""
    keeping = asyncio.create_task(engine.run())
    await asyncio.wait({serving, keeping}, return_when=asyncio.FIRST_COMPLETED)
    server.end() if not serving.done() else None
    await serving
    failed = keeping.exception() if keeping.done() else None
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    if failed is not None:
        raise failed


def announce(listening: Listening, port: int) -> None:
    """Logs where the gateway listens, with a warning when traffic is not encrypted."""
    scheme = "https" if listening.tls else "http"
    # How this machine itself reaches it: an address that stands for all is none to go to.
    host = listening.host
    if is_every_address(host):
        host = "::1" if ":" in host else "127.0.0.1"
    base = f"{scheme}://{_bracketed(host)}:{port}"
    _log.info("serving on %s://%s:%s (ready when /readyz says so); end it with Ctrl-C", scheme, listening.host, port)
    _log.info("console: %s/console", base)
    _log.info("API: %s/v1 (OpenAI-compatible) and %s/api; described at %s/openapi.json", base, base, base)
    if is_open(listening.host) and not listening.tls and not listening.trusted_proxies:
        _log.warning(
            "%s is reached by other machines and nothing encrypts the way: keys and messages can be read on it; "
            "give --tls-cert and --tls-key, or name the proxies that encrypt in the setting trusted_proxies",
            listening.host,
        )


def _own_engine(deps: Dependencies, log_format: LogFormat) -> Callable[[Path], Sequence[str]]:
    options = ["--workspace", str(deps.workspace), "--log-format", log_format]
    # -P: a file of the current folder (a user's random.py) is no module of ours.
    command = [sys.executable, "-P", "-m", "tailorbird.cli.main", "engine"]
    return lambda place: [*command, "--socket", str(place), *options]
