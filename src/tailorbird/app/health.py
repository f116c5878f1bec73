"""What is known of the workspace's condition, looked at again and again while the gateway serves.

In: opened parts. Out: the condition as it was seen last, at once; a line of log when it changes. Must not know: HTTP, engines.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from tailorbird.lifecycle import Parts
from tailorbird.lifecycle.upkeep.condition import Condition, examine
from tailorbird.lifecycle.upkeep.shipping import Notice

_log = logging.getLogger("tailorbird.health")

#: Seconds between two looks, and after which a look that has not ended means that the record is locked or its server silent.
_LOOK_EVERY, _STALE_AFTER = 3.0, 10.0

_UNKNOWN = Condition(writable=False, notices=(Notice(code="starting", text="the workspace was not looked at yet"),))
_SILENT = Condition(writable=False, notices=(Notice(code="record_silent", text="the record did not answer for a while"),))


class Health:
    """Looks between ``start`` and ``stop``, in a thread: a look may wait for the record."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen, self._at = _UNKNOWN, time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look; returns at once."""
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Ends the looking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def condition(self) -> Condition:
        """What was seen last; when that is long ago, that the record does not answer."""
        return self._seen if time.monotonic() - self._at < _STALE_AFTER else _SILENT

    async def _look(self) -> None:
        while True:
            before, self._seen = self._seen, await asyncio.to_thread(examine, self._parts)
            self._at = time.monotonic()
            _tell(before, self._seen)
            await asyncio.sleep(_LOOK_EVERY)


def _tell(before: Condition, now: Condition) -> None:
    """Says what is new, and what is over."""
    known, found = {notice.code for notice in before.notices}, {notice.code for notice in now.notices}
    for notice in now.notices:
        if notice.code not in known:
            _log.warning("%s: %s", notice.code, notice.text)
    for code in sorted(known - found - {"starting"}):
        _log.info("%s: no longer", code)
