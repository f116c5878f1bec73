"""Engine process on a loopback port, and the supervisor that starts it, waits until it answers, and restarts it when it dies or hangs."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ports.engine import LiveEngine, LoadRequest
from tailorbird.processes.engine_routes import engine_app
from tailorbird.processes.http_servers import Server, ended_by_signals, listen_privately
from tailorbird.processes.logs import LogFormat, set_up_logging
from tailorbird.system.garbage_collection import exempt_present_objects
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
