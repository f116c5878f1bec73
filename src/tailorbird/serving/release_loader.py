"""Release loader: the releases that an engine process holds, and the loads under way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Stage
from tailorbird.domain.errors import Internal, TailorbirdError, Unavailable
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
    """Releases of one engine. ``on_change`` is called whenever a load has ended, and, with True, when the engine turned out to hold other
    releases than those that were loaded.

    Every second load is of what somebody waits for (each tenant's in turn, so that nobody's thousand names stand before another's one), the
    others go as ``want`` was told last, so that a name that moves is held up neither by thousands that an engine started anew lacks nor by
    thousands that somebody asks for.
    """

    def __init__(self, driver: EngineDriver, on_change: Callable[[bool], None]) -> None:
        self._driver = driver
        self._on_change = on_change
        self._loaded: frozenset[Digest] = frozenset()
        self._pinned: frozenset[Digest] = frozenset()
        self._in_production: frozenset[Digest] = frozenset()
        self._queue: dict[Digest, LoadRequest] = {}
        self._hurried: dict[str, dict[Digest, None]] = {}
        self._hurried_last = False
        self._loading: set[Digest] = set()
        self._failed: dict[Digest, _Failure] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._answers = self._started = False

    @property
    def loaded(self) -> frozenset[Digest]:
        """Releases that the engine is known to hold."""
        return self._loaded

    def holds(self, release: Digest, stage: Stage) -> bool:
        """True for a release that the engine holds and has admitted for ``stage``: what was loaded to be tried is not approved thereby."""
        return release in self._loaded and (stage == "staging" or release in self._in_production)

    @property
    def engine_answers(self) -> bool:
        """True when the engine answered the last call."""
        return self._answers

    def is_under_way(self, release: Digest) -> bool:
        """True for a release that is being loaded, or will be as soon as it is its turn; for any before the engine could be asked for
        what is needed: it may only be starting."""
        return release in self._loading or release in self._queue or not self._started

    def is_first_load(self, release: Digest) -> bool:
        """True for a release that is under way and has not failed before: it will hardly be long."""
        return self.is_under_way(release) and release not in self._failed

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
        except Exception as error:  # noqa: BLE001 - who asks is a watch, which a defect of a driver must not end
            self._answers = False
            if not isinstance(error, TailorbirdError):
                _log.critical("the driver of the engine has a defect", exc_info=error)
            return
        self._answers = True
        if self._loaded is known:
            self._now_loaded(held)

    def want(self, needed: Mapping[Digest, LoadRequest]) -> None:
        """Has loaded, in this order, what is needed and neither loaded as wanted (for its stage; pinned or not), nor being loaded, nor
        waiting for its next attempt; what waited to be loaded and is needed no more is not.
        """
        if self._answers:
            self._started, self._queue = True, {}
            self._enqueue(needed)

    def want_first(self, needed: Mapping[Digest, LoadRequest]) -> None:
        """As ``want``, before all that waits to be loaded, which stays."""
        if self._answers:
            waiting, self._queue = self._queue, {}
            self._enqueue(needed)
            self._queue |= {release: request for release, request in waiting.items() if release not in self._queue}

    def _enqueue(self, needed: Mapping[Digest, LoadRequest]) -> None:
        now = time.monotonic()
        for release, request in needed.items():
            failed = self._failed.get(release)
            as_wanted = self.holds(release, request.purpose) and request.pinned == (release in self._pinned)
            if not (as_wanted or release in self._loading or (failed and now < failed.retry_at)):
                self._queue[release] = request
        self._workers = {worker for worker in self._workers if not worker.done()}
        for _ in range(min(len(self._queue), _SIDE_BY_SIDE - len(self._workers))):
            self._workers.add(asyncio.create_task(self._load_all()))

    def hurry(self, tenant: str, release: Digest) -> None:
        """Somebody waits for a release of ``tenant``: it is loaded before others, if it is to be loaded at all."""
        if release not in self._loading:
            self._hurried.setdefault(tenant, {})[release] = None

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
        self._queue = {}
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _load_all(self) -> None:
        while self._queue:
            await self._load(self._queue.pop(self._next()))

    def _next(self) -> Digest:
        """The next one of the queue. Who is waited for and is not in it will be, or is loaded, or cannot be: the next request tells."""
        self._hurried_last = not self._hurried_last
        while self._hurried and self._hurried_last:
            tenant, releases = next(iter(self._hurried.items()))
            del self._hurried[tenant]
            release = next(iter(releases))
            del releases[release]
            if releases:
                self._hurried[tenant] = releases
            if release in self._queue:
                return release
        return next(iter(self._queue))

    async def _load(self, request: LoadRequest) -> None:
        release = request.release
        self._loading.add(release)
        try:
            await self._driver.load(request)
        except Exception as error:  # noqa: BLE001 - a defect of a driver is no reason to load nothing else
            if not isinstance(error, TailorbirdError):
                _log.critical("the driver of the engine has a defect", exc_info=error)
            self._note_failure(release, error if isinstance(error, TailorbirdError) else _defect())
        else:
            self._failed.pop(release, None)
            self._loaded |= {release}
            self._pinned = self._pinned | {release} if request.pinned else self._pinned - {release}
            admitted = request.purpose == "production"
            self._in_production = self._in_production | {release} if admitted else self._in_production - {release}
        finally:
            self._loading.discard(release)
            self._on_change(False)

    def _note_failure(self, release: Digest, error: TailorbirdError) -> None:
        before = self._failed.get(release)
        attempts = before.attempts + 1 if before else 1
        pause = min(_FIRST_PAUSE * 2 ** (attempts - 1), _LONGEST_PAUSE)
        self._failed[release] = _Failure(error, attempts, time.monotonic() + pause)
        if isinstance(error, Unavailable):
            # The engine may be gone, and thousands wait: they are asked for again after the next look, not one by one of nobody.
            self._queue = {}
        level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
        _log.log(level, "release %s was not loaded (%s): %s", short(release), error.error_code, error.message)

    def _now_loaded(self, held: frozenset[Digest]) -> None:
        self._pinned &= held
        self._in_production &= held
        if held != self._loaded:
            self._loaded = held
            self._on_change(True)


def _defect() -> Internal:
    return Internal("the driver of the engine failed on this release", "look at the gateway's log", code="engine_defect")
