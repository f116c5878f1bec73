"""Background loops: rounds of work beside a process's own, which go on whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tailorbird.domain.errors import TailorbirdError

_log = logging.getLogger("tailorbird.loops")

#: Seconds of pause after the first of several failed rounds, doubled after each further one, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
#: Failed rounds in a row from which on a loop is failing: one alone may be a moment's.
_FAILING = 2


class Rounds:
    """How the rounds of the loop ``name`` ended: ``failures`` counts those that failed, ``pause`` (seconds) is due before the next one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        self.pause = 0.0
        self._in_a_row = 0

    @property
    def is_failing(self) -> bool:
        """True from the second failed round in a row until one succeeds."""
        return self._in_a_row >= _FAILING

    def succeeded(self) -> None:
        """A round has ended well."""
        if self.is_failing:
            _log.info("%s: goes on", self.name)
        self._in_a_row, self.pause = 0, 0.0

    def failed(self, error: BaseException) -> None:
        """A round has failed. The words of an error that is not ours may quote data: only its kind and place are logged."""
        self.failures += 1
        self._in_a_row += 1
        self.pause = min(_FIRST_PAUSE * 2.0 ** min(self._in_a_row - 1, 16), _LONGEST_PAUSE)
        if isinstance(error, TailorbirdError):
            _log.warning("%s: error[%s]: %s; %s", self.name, error.error_code, error.message, error.hint)
        else:
            _log.error("%s: a defect: %s", self.name, place_of(error))


class BackgroundLoop(Rounds):
    """Does ``work`` again and again, ``every`` so many seconds, from ``start`` to ``stop``. After a round that fails it backs off and goes
    on. ``work`` may wait for what is to do; one that returns False ends the loop."""

    def __init__(self, name: str, work: Callable[[], Awaitable[object]], every: float = 0.0) -> None:
        super().__init__(name)
        self._work = work
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def round(self) -> object:
        """One round, now; what ``work`` returns, None where it fails."""
        try:
            ended = await self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next round is due
            self.failed(error)
            return None
        self.succeeded()
        return ended

    def start(self, after: float = 0.0) -> None:
        """Begins with a round after so many seconds; returns at once."""
        self._task = asyncio.create_task(self._run(after))

    async def stop(self, within: float = 0.0) -> None:
        """Ends the loop: it may end by itself within so many seconds, and is cancelled then."""
        if self._task is None:
            return
        if within:
            await asyncio.wait({self._task}, timeout=within)
        # A cancellation is lost where what is waited for comes in the same moment (``asyncio.wait_for`` before Python 3.12).
        self._stopping = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, after: float) -> None:
        await asyncio.sleep(after)
        while not self._stopping and await self.round() is not False:
            await asyncio.sleep(max(self._every, self.pause))


def place_of(error: BaseException) -> str:
    """Kind of an error and the place in the code where it was raised, without its words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{where}"
