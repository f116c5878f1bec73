"""The engine process: models behind HTTP on this machine alone, for one gateway."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.ports.engine import LiveEngine, LoadRequest
from tailorbird.processes.engine_routes import engine_app
from tailorbird.processes.http_servers import Server, ended_by_signals, listen_privately
from tailorbird.processes.logs import LogFormat, set_up
from tailorbird.usecases import Dependencies, admit

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
    set_up("engine", log_format)
    _end_with_parent()
    serve_engine(deps.engine, partial(admit, deps), place, secret)


def serve_engine(open_engine: Callable[[], LiveEngine], admit: Callable[[LoadRequest], Servable], place: Path, secret: str) -> None:
    """Serves what ``open_engine`` opens on a Unix socket at ``place`` until SIGINT or SIGTERM. Raises Unavailable as ``run_engine``."""
    # Before torch is imported: its threads would otherwise spin on a core that the next step needs (decision 0025).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    engine = open_engine()
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
