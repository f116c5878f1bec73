"""Health monitor: the workspace's health, refreshed while the gateway serves."""

from __future__ import annotations

import asyncio
import logging
import time

from tailorbird.system.background_loop import BackgroundLoop
from tailorbird.usecases import Dependencies
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice
from tailorbird.usecases.maintenance.health import WorkspaceHealth, examine

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
