"""``tailorbird serve``, the engine process that it starts, and ``tailorbird worker``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import wiring
from tailorbird.cli.invocation import command, shared_options
from tailorbird.cli.session import err, open_session
from tailorbird.processes.engine_process import run_engine, take_secret
from tailorbird.processes.gateway import Listening, run_gateway
from tailorbird.processes.http_servers import tls_of
from tailorbird.processes.logs import LogFormat, set_up_logging
from tailorbird.processes.worker import StepWorker, run_schedules, worker_schedules
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.settings import Settings
from tailorbird.usecases import Progress
from tailorbird.usecases.maintenance.backup import demand_undamaged

#: How long a change asked for over HTTP waits for another writer of the record.
_BUSY_SECONDS = 5.0

serve = command()
engine = command()

_Format = Annotated[LogFormat | None, typer.Option("--log-format", help="Log format. [default: text]")]


@serve.command()
def _serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: 8080]", min=0, max=65535)] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate (PEM, with chain).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="TLS private key (PEM, owner-readable only).")] = None,
    log_format: _Format = None,
) -> None:
    """Serve the OpenAI-compatible API for every alias in production, the control API and the console.

    Ctrl-C stops it after requests in flight.
    """
    shared_options().refuse("serve", "who", "key", "as_json")
    session = replace(open_session(), busy_seconds=_BUSY_SECONDS)
    demand_undamaged(session.deps)
    settings = session.settings
    listening = Listening(
        host=host or settings.host,
        port=settings.port if port is None else port,
        tls=tls_of(tls_cert or _file(settings, settings.tls_cert), tls_key or _file(settings, settings.tls_key)),
        trusted_proxies=settings.trusted_proxies,
        public_urls=settings.public_urls,
        log_format=log_format or settings.log_format,
    )
    keep_former = timedelta(seconds=settings.keep_former_seconds)
    outside = wiring.open_outside_drivers(settings, session.deps)
    replicas = dict(zip(settings.engine_url, outside, strict=True)) if outside else None
    run_gateway(session.deps, listening, wiring.open_driver, keep_former=keep_former, replicas=replicas)


def _file(settings: Settings, path: str) -> Path | None:
    return settings.place(path) if path else None


@engine.command()
def _engine(
    place: Annotated[Path, typer.Option("--socket", help="Unix socket to create, in a folder closed to others.")],
    log_format: _Format = None,
) -> None:
    """Run models for one gateway (internal: started by serve)."""
    shared_options().refuse("engine", "who", "key", "as_json")
    session = open_session()
    run_engine(session.deps, place, take_secret(), log_format or session.settings.log_format)


worker = command()


@worker.command()
def _worker(
    once: Annotated[bool, typer.Option("--once", help="Exit when the queue is empty.")] = False,
    log_format: Annotated[LogFormat | None, typer.Option("--log-format", help="Log format. [default: text]")] = None,
) -> None:
    """Execute submitted runs of every tenant, step by step; workers share the queue. Ctrl-C releases the current step and exits.

    Acts as the identity `worker` of each tenant, whose key must be in the workspace. Also signs and ships log checkpoints and monitors
    production on the configured schedule, except with --once.
    """
    shared_options().refuse("worker", "who", "key", "as_json")
    session = open_session()
    demand_undamaged(session.deps)
    form, deps = log_format or session.settings.log_format, session.deps
    log = set_up_logging("worker", form)
    log.info("waiting for runs; submit one with: tailorbird adapt OBJECTIVE --detach")
    told = ProgressDisplay(err, waits=True) if form == "text" else nullcontext(Progress(tell=log.info))
    with told as progress, nullcontext() if once else run_schedules(worker_schedules(deps)):
        StepWorker(deps, progress, log.info, once=once).run()


apps = {"serve": serve, "engine": engine, "worker": worker}
