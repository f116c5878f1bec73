"""Release loader: the releases that an engine process holds, and the loads under way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import EngineDriver, LoadRequest

_log = logging.getLogger("tailorbird.serving")

#: Pause before a failed load is tried again, in seconds: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: Loads that run side by side: one slow release does not hold up the others.
_SIDE_BY_SIDE = 4


@dataclass(frozen=True)
class _Failure:
    error: TailorbirdError
    attempts: int
    retry_at: float


class ReleaseLoader:
    """Releases of one engine. ``on_change`` is called whenever the set of loaded releases changed or a load failed."""

    def __init__(self, driver: EngineDriver, on_change: Callable[[], None]) -> None:
        self._driver = driver
        self._on_change = on_change
        self._loaded: frozenset[Digest] = frozenset()
        self._pinned: frozenset[Digest] = frozenset()
        self._loading: dict[Digest, asyncio.Task[None]] = {}
        self._failed: dict[Digest, _Failure] = {}
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._answers = False

    @property
    def loaded(self) -> frozenset[Digest]:
        """Releases that the engine is known to hold."""
        return self._loaded

    @property
    def loading(self) -> frozenset[Digest]:
        """Releases whose load is under way."""
        return frozenset(self._loading)

    @property
    def engine_answers(self) -> bool:
        """True when the engine answered the last call."""
        return self._answers

    def failure(self, release: Digest) -> TailorbirdError | None:
        """Error of the last attempt to load ``release``; None without one, or when the engine was merely away."""
        failed = self._failed.get(release)
        return failed.error if failed and not isinstance(failed.error, Unavailable) else None

    async def refresh(self) -> None:
        """Asks the engine what it holds: an engine that was restarted holds nothing.

        An engine that does not answer may only be busy, so what is known stays; an answer that was overtaken by a load is not taken.
        """
        known = self._loaded
        try:
            held = frozenset(await self._driver.loaded())
        except TailorbirdError:
            self._answers = False
            return
        self._answers = True
        if self._loaded is known:
            self._now_loaded(held)

    def want(self, needed: Mapping[Digest, LoadRequest]) -> None:
        """Starts loading what is needed and neither loaded (pinned or not, as wanted), nor being loaded, nor waiting for its next
        attempt.
        """
        if not self._answers:
            return
        now = time.monotonic()
        for release, request in needed.items():
            failed = self._failed.get(release)
            as_wanted = release in self._loaded and request.pinned == (release in self._pinned)
            if as_wanted or release in self._loading or (failed and now < failed.retry_at):
                continue
            self._loading[release] = asyncio.create_task(self._load(request))

    async def unload(self, releases: Iterable[Digest]) -> None:
        """Frees releases; one that cannot be freed now is tried again at the next call."""
        for release in releases:
            try:
                await self._driver.unload(release)
            except TailorbirdError as error:
                _log.warning("release %s was not unloaded: %s", short(release), error.error_code)
            else:
                self._now_loaded(self._loaded - {release})

    async def stop(self) -> None:
        """Cancels the loads under way."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, request: LoadRequest) -> None:
        release = request.release
        try:
            async with self._slots:
                await self._driver.load(request)
        except TailorbirdError as error:
            self._note_failure(release, error)
        else:
            self._failed.pop(release, None)
            self._loaded |= {release}
            self._pinned = self._pinned | {release} if request.pinned else self._pinned - {release}
        finally:
            self._loading.pop(release, None)
            self._on_change()

    def _note_failure(self, release: Digest, error: TailorbirdError) -> None:
        before = self._failed.get(release)
        attempts = before.attempts + 1 if before else 1
        pause = min(_FIRST_PAUSE * 2 ** (attempts - 1), _LONGEST_PAUSE)
        self._failed[release] = _Failure(error, attempts, time.monotonic() + pause)
        level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
        _log.log(level, "release %s was not loaded (%s): %s", short(release), error.error_code, error.message)

    def _now_loaded(self, held: frozenset[Digest]) -> None:
        self._pinned &= held
        if held != self._loaded:
            self._loaded = held
            self._on_change()
