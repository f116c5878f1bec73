"""Gateway process: public HTTP server, its own origins, and the engine process beside it.

What a request says of the host that it is for proves nothing: whoever passes a login on writes there what he likes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI

from tailorbird import __version__, api, console
from tailorbird.auth.request_checks import origin_of
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.ports.engine import EngineDriver
from tailorbird.processes.engine_process import Supervisor
from tailorbird.processes.http_servers import (
    LONGEST_SOCKET,
    Server,
    Tls,
    check_proxies,
    connection_limits_for,
    ended_by_signals,
    is_open,
    listen,
)
from tailorbird.processes.logs import AccessLog, LogFormat, set_up_logging
from tailorbird.processes.worker import (
    Schedule,
    clear_erased,
    guard_rollouts,
    purge_expired,
    raise_clock_floor,
    record_denial_floods,
    run_schedules,
    sign_and_ship,
)
from tailorbird.serving import (
    AliasSync,
    AnswerService,
    EffectChecks,
    EngineReplicas,
    HostedAccess,
    HostedDriver,
    Quotas,
    RequestLog,
    ShadowTraffic,
)
from tailorbird.system.background_loop import BackgroundLoop, Rounds
from tailorbird.system.garbage_collection import exempt_present_objects
from tailorbird.usecases import Dependencies
from tailorbird.usecases.audit_events import tell_denials
from tailorbird.usecases.endpoints import paid_this_month, served_endpoint
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice
from tailorbird.usecases.maintenance.health import WorkspaceHealth, examine
from tailorbird.usecases.releases.load_verification import RecordedProofs, admit_hosted
from tailorbird.usecases.releases.release_queries import count_live
from tailorbird.usecases.rollouts.rollouts import count_rollouts
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
    here = _LOOPBACK if _is_any(host) or not is_open(host) else (host,)
    named = {f"{scheme}://{_bracketed(name)}:{port}" for name in (*here, *(tls.names() if tls else ()))}
    return frozenset(map(origin_of, (*named, *public_urls)))


def check_urls(public_urls: Sequence[str]) -> None:
    """Raises InvalidInput for what is not the address of a server."""
    for url in public_urls:
        origin_of(url)


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


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


def hosted_access(deps: Dependencies) -> HostedAccess:
    """What the gateway asks of the record before it sends a request to a hosted model."""
    return HostedAccess(
        admit=partial(admit_hosted, deps),
        endpoint=partial(served_endpoint, deps),
        client=deps.endpoint_client,
        paid=partial(paid_this_month, deps),
        now=deps.clock.now,
    )


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
    driver = HostedDriver(engine, hosted_access(deps))
    deployment = AliasSync(deps.ledger, driver, deps.clock, keep_former, quotas.gateway)
    deployment.written_in = deps.upkeep.record_file.parent if deps.upkeep.record_file else None
    journal = RequestLog(deps.ledger, gateway=quotas.gateway, redact=deps.redact, metered=quotas.meters)
    health, mirror = HealthMonitor(deps), ShadowTraffic(journal)
    loops = (*journal.loops, quotas.loop, *deployment.loops, health.loop)
    metrics = _metrics_of(deployment, driver, checks, loops)
    metrics.watch_shadow(mirror)
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
    app.include_router(api.metrics_routes(metrics, partial(count_rollouts, deps), partial(count_live, deps)))
    app.include_router(console.console_routes(entrance))
    app.include_router(api.reference_routes())
    api.add_error_handlers(app)
    app.add_middleware(AccessLog)
    app.add_middleware(api.RequestObserver, metrics=metrics)
    return app


def _metrics_of(deployment: AliasSync, driver: HostedDriver, checks: Sequence[EffectChecks], loops: Sequence[Rounds]) -> api.Metrics:
    metrics = api.Metrics()
    metrics.watch(deployment, driver.circuits)
    metrics.watch_effects(checks)
    metrics.watch_loops(loops)
    return metrics


def run_gateway(
    deps: Dependencies,
    listening: Listening,
    open_driver: Callable[[str, str], EngineDriver],
    engine_command: Callable[[Path], Sequence[str]] | None = None,
    keep_former: timedelta = KEEP_FORMER,
) -> None:
    """Serves until SIGINT or SIGTERM; then requests in flight end, rows are written, the engine is ended.

    ``engine_command`` gives the command line of the engine process for the place of its socket (default: ``tailorbird engine`` on this
    workspace). Raises Unavailable: the port is in use (before anything starts), the engine never answers; InvalidInput for a proxy or an
    address that is none.
    """
    set_up_logging("gateway", listening.log_format)
    check_proxies(listening.trusted_proxies)
    check_urls(listening.public_urls)
    # In a folder of its own that only this user may enter: nobody else can answer in the engine's place while it is away.
    with (
        listen(listening.host, listening.port) as listener,
        TemporaryDirectory(prefix="tailorbird-", dir=socket_folder()) as folder,
    ):
        secret, command = secrets.token_urlsafe(32), engine_command or _own_engine(deps, listening.log_format)
        place = Path(folder) / "engine.sock"

        async def serve() -> None:
            driver = open_driver(f"unix:{place}", secret)
            app = gateway_app(deps, [driver], keep_former, _known_as(listening, listener))
            engine = Supervisor(command(place), secret, driver.ready, _log.info, app.state.doubt)
            try:
                await _serve(deps, listening, listener, app, engine)
            finally:
                await driver.close()

        asyncio.run(serve())


def socket_folder() -> str:
    """Where folders of sockets lie: among temporary files, or in ``/tmp`` where a socket's path would be too long there."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) + _FOLDER_AND_SOCKET <= LONGEST_SOCKET else "/tmp"


def run_gateway_with_drivers(
    deps: Dependencies,
    listening: Listening,
    drivers: Sequence[EngineDriver],
    keep_former: timedelta = KEEP_FORMER,
    addresses: Sequence[str] = ("",),
) -> None:
    """As ``run_gateway``, with replicas of an engine that somebody else keeps alive at ``addresses``."""
    set_up_logging("gateway", listening.log_format)
    check_proxies(listening.trusted_proxies)
    with listen(listening.host, listening.port) as listener:

        async def serve() -> None:
            try:
                app = gateway_app(deps, drivers, keep_former, _known_as(listening, listener), addresses)
                await _serve(deps, listening, listener, app, None)
            finally:
                await asyncio.gather(*(driver.close() for driver in drivers))

        asyncio.run(serve())


def _known_as(listening: Listening, listener: socket.socket) -> frozenset[str]:
    return own_origins(listening.host, listener.getsockname()[1], listening.tls, listening.public_urls)


async def _serve(deps: Dependencies, listening: Listening, listener: socket.socket, app: FastAPI, engine: Supervisor | None) -> None:
    """Serves ``app`` until it is told to end, with its chores and its engine process."""
    server = Server(app, listening.tls, listening.trusted_proxies, connection_limits_for(listening.trusted_proxies))
    exempt_present_objects()
    port = listener.getsockname()[1]
    announce(listening, port)
    _log.info("%s", await asyncio.to_thread(first_request, deps, _reached_at(listening, port)))
    chores = [
        raise_clock_floor(deps),
        sign_and_ship(deps),
        purge_expired(deps),
        clear_erased(deps),
        guard_rollouts(deps),
        record_denial_floods(deps),
        Schedule("certificate", _RENEW_EVERY, server.renew_certificate),
    ]
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
    scheme, base = "https" if listening.tls else "http", _reached_at(listening, port)
    _log.info("serving on %s://%s:%s (ready when /readyz says so); end it with Ctrl-C", scheme, listening.host, port)
    _log.info("console: %s/console", base)
    _log.info("API: %s/v1 (OpenAI-compatible) and %s/api; reference: %s/docs", base, base, base)
    if is_open(listening.host) and not listening.tls and not listening.trusted_proxies:
        _log.warning(
            "%s is reached by other machines and nothing encrypts the way: keys and messages can be read on it; "
            "give --tls-cert and --tls-key, or name the proxies that encrypt in the setting trusted_proxies",
            listening.host,
        )


def _reached_at(listening: Listening, port: int) -> str:
    return f"{'https' if listening.tls else 'http'}://{_reached_as(listening.host)}:{port}"


def _reached_as(host: str) -> str:
    """How this machine itself reaches what listens on ``host``: an address that stands for all is none to go to."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{name}]" if ":" in name else name


def _own_engine(deps: Dependencies, log_format: LogFormat) -> Callable[[Path], Sequence[str]]:
    options = ["--workspace", str(deps.workspace), "--log-format", log_format]
    # -P: a file of the current folder (a user's random.py) is no module of ours.
    command = [sys.executable, "-P", "-m", "tailorbird.cli.main", "engine"]
    return lambda place: [*command, "--socket", str(place), *options]


#: What each kind of task is asked: the route, and the request beside ``model``.
_ASKED: dict[TaskKind, tuple[str, dict[str, object]]] = {
    TaskKind.CLASSIFY: ("chat/completions", {"messages": [{"role": "user", "content": "TEXT"}]}),
    TaskKind.GENERATE: ("chat/completions", {"messages": [{"role": "user", "content": "TEXT"}]}),
    TaskKind.RANK: ("rerank", {"query": "TEXT"}),
}


def first_request(deps: Dependencies, base: str) -> str:
    """A ``curl`` line that asks the first name in production of the gateway at the URL ``base``, with the key in ``$KEY``; what to do first
    where nothing is in production."""
    try:
        with deps.ledger.work(deps.host, write=False) as work:
            name = next((alias for alias in work.aliases.all() if alias.targets), None)
            kind = work.releases.get(name.targets[0].release).content.task if name else None
    except TailorbirdError:  # what serves tells of it: a line of help stops no gateway
        return "the first request cannot be told now: docs/api.md has examples"
    if name is None or kind is None:
        return f"tenant {deps.host} has nothing in production yet: tailorbird promote DIGEST"
    route, asked = _ASKED[kind]
    body = json.dumps({"model": name.path, **asked})
    return (
        f'first request, with what "tailorbird key create" printed in $KEY: curl -sS {base}/v1/{route} -H "authorization: Bearer $KEY" '
        f"-H 'content-type: application/json' -d '{body}'"
    )
