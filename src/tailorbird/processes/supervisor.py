"""Keeps the engine process alive: starts it, waits until it answers, starts it again when it dies or hangs, ends it."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from tailorbird.domain.errors import Unavailable
from tailorbird.processes.engine_process import SECRET_VARIABLE

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
    """One engine process. ``tell`` is told, in sentences, what happens to it; ``changed`` is called when it begins or ceases to answer."""

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
