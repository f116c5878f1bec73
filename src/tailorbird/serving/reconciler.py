"""Reconciler: polls the record for moved aliases, has the engine load their releases, and routes to them only then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain

from tailorbird.crypto.anchored_rows import anchored_row, row_text
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import FALLBACK, SHADOW, Alias, AliasTarget, Stage, name_and_stage
from tailorbird.domain.errors import Corrupt, Internal, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.release import ReleaseContent
from tailorbird.domain.value import Digest
from tailorbird.ledger import Ledger, UnitOfWork
from tailorbird.ports.clock import Clock
from tailorbird.ports.engine import EngineDriver, EngineState, LoadRequest
from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, TrafficArm, arm_name
from tailorbird.system.background_loop import BackgroundLoop
from tailorbird.system.process import exempt_present_objects

_log = logging.getLogger("tailorbird.serving")

#: Seconds between two readings of the move counter, between two full passes, and between two questions to the engine.
_POLL_EVERY, _FULL_EVERY, _ASK_EVERY = 0.1, 10.0, 1.0
#: After a pass that used more seconds of the processor than this, the next one waits so many times as long.
_LONG, _PAUSES = 0.005, 4
#: New names, and growth, from which on objects are exempted from garbage collection again.
_MANY, _GROWTH = 500, 1.25
#: A table that was not compared with the record for this long is stale.
_STALE_AFTER = 5.0
#: Seconds between two heartbeats, and after which one is too old to count.
BEAT_EVERY, GONE_AFTER = 5.0, 15.0
#: Pause before a failed load is tried again, in seconds: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: Loads that run side by side: one slow release does not hold up the others.
_SIDE_BY_SIDE = 4


@dataclass(frozen=True)
class Readiness:
    """Readiness of the gateway: ledger read lately, engine answering, live aliases, and those not yet as the ledger says."""

    ledger: bool
    engine: bool
    live: int
    behind: int

    @property
    def ready(self) -> bool:
        """True when every alias answers as the ledger says."""
        return self.ledger and self.engine and self.behind == 0


class Reconciler:
    """Follows the record between ``start`` and ``stop``. Former targets stay loaded for ``keep_former``, so that a rollback needs no load.

    A name moves to its new releases when they are loaded; until then, and when they cannot be loaded, the former ones answer. Passes
    between full ones look at names that moved or wait.
    """

    def __init__(
        self, ledger: Ledger, driver: EngineDriver, clock: Clock, keep_former: timedelta = timedelta(seconds=600), gateway: str = ""
    ) -> None:
        self.routes = AliasRoutes(self._hurry)
        self._clock, self._keep_former = clock, keep_former
        self._heartbeat = GatewayHeartbeat(ledger, clock, gateway)
        self._record = AliasRecord(ledger)
        #: Names that answer as this version of theirs says, and are not looked at again before it is another.
        self._settled: dict[str, Alias] = {}
        self._read_at = self._full_at = self._unloaded_at = float("-inf")
        self._is_readable = True
        #: Live names when objects were last exempted from garbage collection.
        self._exempt = 0
        self._changed, self._suspect = asyncio.Event(), asyncio.Event()
        self._loader = ReleaseLoader(driver, self._on_change)
        self.loops = (BackgroundLoop("watch of names", self._follow), BackgroundLoop("watch of the engine", self._watch_engine))

    async def start(self) -> None:
        """Starts the loops; returns at once, with nothing live yet."""
        for loop in self.loops:
            loop.start()

    async def stop(self) -> None:
        """Ends the loops. What is loaded stays loaded."""
        await asyncio.gather(*(loop.stop() for loop in self.loops))
        await self._loader.stop()
        await asyncio.to_thread(self._heartbeat.end)

    @property
    def engine_state(self) -> EngineState:
        """What the engine last answered that it does."""
        return self._loader.state

    def readiness(self) -> Readiness:
        """Present readiness."""
        fresh = time.monotonic() - self._read_at < _STALE_AFTER
        return Readiness(fresh, self._loader.engine_answers, self.routes.live_count, sum(map(self._is_behind, self._unsettled())))

    def doubt(self, path: str = "") -> None:
        """Asks the engine at once what it holds, after it was started anew, or lacked what answers the name ``path``: what the name points
        to by now, which may be another release, is loaded before others."""
        self._hurry(path)
        self._suspect.set()

    def _hurry(self, path: str) -> None:
        """A caller waits for the name."""
        if (alias := self._record.aliases.get(path)) is not None:
            self._loader.hurry(alias.asked)

    def _on_change(self, differs: bool) -> None:
        """A load ended; ``differs``: the engine answers again, or holds others than was known."""
        if differs:
            self._full_at = float("-inf")
        self._changed.set()

    async def _follow(self) -> None:
        self._changed.clear()
        took = await self._look()
        if took > _LONG:
            await asyncio.sleep(_PAUSES * took)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _POLL_EVERY)

    async def _look(self) -> float:
        """One pass. Returns the seconds of processor time that it took from the event loop."""
        full = time.monotonic() - self._full_at >= _FULL_EVERY
        moved: Collection[str] = ()
        try:
            moved = await asyncio.to_thread(self._record.read, full=full)
        except TailorbirdError as error:
            # A server that took another's place may lack moves, and have as many others: every name is compared with it.
            self._full_at = float("-inf")
            if self._is_readable:
                _log.warning("the record could not be read (%s); names stay as they are", error.error_code)
            self._is_readable = False
        else:
            self._is_readable, self._read_at = True, time.monotonic()
            self._full_at = self._read_at if full else self._full_at
        started = time.thread_time()
        # Has loaded what names need, and lets them answer with what the record says, as far as that is loaded.
        aliases, unsettled = self._record.aliases, self._unsettled()
        if full:
            self._loader.want(self._needed(aliases.values()))
            if self._record.moved is not None:
                self.routes.keep_only(set(aliases))
                self._settled = {path: alias for path, alias in self._settled.items() if path in aliases}
        elif unsettled:
            self._loader.want_first(self._needed(sorted(unsettled, key=lambda alias: alias.path not in moved)))
        for alias in unsettled:
            self._settle(alias)
        if self.routes.live_count > _GROWTH * self._exempt + _MANY:
            self._exempt = self.routes.live_count
            exempt_present_objects(walk=False)
        took = time.thread_time() - started
        waiting = [alias for alias in self._unsettled() if self._is_behind(alias)]
        if self._record.moved is not None and all(any(map(self._loader.failure, alias.asked)) for alias in waiting):
            await asyncio.to_thread(self._heartbeat.beat, self._record.moved)
        return took

    async def _watch_engine(self) -> None:
        await self._loader.refresh()
        if time.monotonic() - self._unloaded_at >= _FULL_EVERY:
            self._unloaded_at = time.monotonic()
            await self._loader.unload(self._loader.loaded - self._needed(self._record.aliases.values()).keys() - self.routes.in_use)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._suspect.wait(), _ASK_EVERY)
        self._suspect.clear()

    def _unsettled(self) -> list[Alias]:
        """Names that do not answer as the record says, as far as is known, or to which a shadow or a fallback may still be added."""
        return [alias for path, alias in self._record.aliases.items() if self._settled.get(path) is not alias]

    def _needed(self, aliases: Collection[Alias]) -> dict[Digest, LoadRequest]:
        """One load of each release, for production where any alias asks for that. Most urgent first: targets of names that are answered by
        what they left, all targets, what still answers a name, then what names left within ``keep_former``, and what stands in for hosted
        models (pinned); then shadows."""
        contents, now = self._record.contents, self._clock.now()
        moved = {one: route.alias for one in aliases if (route := self.routes.live(one.path)) and route.alias.version != one.version}
        former = [
            alias
            for alias in aliases
            if now - alias.moved_at < self._keep_former
            or any(target.release in contents and contents[target.release].hosted for target in alias.targets)
        ]
        needed: dict[Digest, LoadRequest] = {}
        for request in chain(
            (_load_of(each.tenant, target.release, each.stage) for each in (*moved, *aliases, *moved.values()) for target in each.targets),
            (_load_of(each.tenant, target.release, each.stage, pinned=True) for each in former for target in each.previous),
            (_load_of(each.tenant, each.mirror, "production") for each in aliases if each.mirror is not None),
        ):
            known = needed.setdefault(request.release, request)
            if request.purpose == "production" != known.purpose:
                needed[request.release] = _load_of(request.tenant, request.release, "production", pinned=known.pinned)
        return needed

    def _settle(self, alias: Alias) -> None:
        """Lets a name answer with what the record says, as far as that is loaded."""
        path, live = alias.path, self.routes.live(alias.path)
        self._settled.pop(path, None)
        if _is_withdrawn(alias):
            self.routes.withdraw(alias)
            self._settled[path] = alias
            return
        contents, named = self._record.contents, _named(alias)
        held = {release: contents[release] for release in named if self._loader.holds(release, alias.stage) and release in contents}
        usable = tuple(target for target in alias.targets if target.release in held)
        failures = [failure for target in alias.targets if (failure := self._loader.failure(target.release))]
        missing = len(alias.targets) - len(usable)
        # One arm that cannot be loaded must not silence a name that has another.
        if usable and (missing == 0 or (live is None and missing == len(failures))):
            route = _route(alias, usable, held)
            if route != live:
                self.routes.go_live(route)
            grows = (alias.mirror is not None and route.mirror is None) or _is_alone(route)
            if not (missing or grows):
                self._settled[path] = alias
        elif live is None:
            self.routes.wait(path, failures[0] if failures else None, loading=any(map(self._loader.is_under_way, alias.asked)))

    def _is_behind(self, alias: Alias) -> bool:
        """True when a name does not answer as the record says, or nothing stands in for its hosted model and what could is being loaded."""
        route = self.routes.live(alias.path)
        if _is_withdrawn(alias):
            return False
        if route is None or (route.alias.targets, route.alias.version) != (alias.targets, alias.version):
            return True
        return _is_alone(route) and any(self._loader.is_first_load(target.release) for target in alias.previous)


def _route(alias: Alias, usable: tuple[AliasTarget, ...], held: Mapping[Digest, ReleaseContent]) -> AliasRoute:
    """The route of an alias whose targets ``usable`` are loaded. Behind a hosted arm stands the release that answers where it does not:
    another target of the name, else one that it had before; of this machine, of the same task, and loaded."""

    def arm_of(name: str, release: Digest) -> TrafficArm:
        one = held[release]
        task, referral = (one.task, one.prompt, one.retrieval), (one.refer_below, one.refer_pattern)
        return TrafficArm(name, release, *task, *referral, one.hosted, one.scope, path=alias.path)

    arms = {}
    for position, target in enumerate(alias.targets):
        if target in usable:
            arm = arm_of(arm_name(position), target.release)
            others = [each.release for each in (*alias.targets, *alias.previous) if arm.hosted and each.release != arm.release]
            local = [each for each in others if each in held and held[each].hosted is None and held[each].task is arm.task]
            arms[target.release] = replace(arm, fallback=arm_of(FALLBACK, local[0])) if local else arm
    mirror = arm_of(SHADOW, alias.mirror) if alias.mirror is not None and alias.mirror in held else None
    return AliasRoute(alias.model_copy(update={"targets": usable}), arms, mirror)


def _is_alone(route: AliasRoute) -> bool:
    """True where nothing stands in for a hosted model."""
    return any(arm.hosted and not arm.fallback for arm in route.arms.values())


def _is_withdrawn(alias: Alias) -> bool:
    return not any(target.weight > 0 for target in alias.targets)


def _named(alias: Alias) -> list[Digest]:
    """The releases that answer under the name, may, or did."""
    return [*alias.asked, *(target.release for target in alias.previous)]


@lru_cache(maxsize=65536)
def _load_of(tenant: str, release: Digest, purpose: Stage, *, pinned: bool = False) -> LoadRequest:
    """One object for each release: they are compared and kept by the thousand."""
    return LoadRequest(tenant=tenant, release=release, purpose=purpose, pinned=pinned)


@dataclass(frozen=True)
class _Failure:
    error: TailorbirdError
    attempts: int
    retry_at: float


class ReleaseLoader:
    """Releases of one engine. ``on_change`` is called whenever a load has ended, and, with True, when the engine answers again or holds
    other releases than those that were loaded.

    What somebody waits for is loaded first (a tenant has few who may wait), the rest in the order of ``want``.
    """

    def __init__(self, driver: EngineDriver, on_change: Callable[[bool], None]) -> None:
        self._driver = driver
        self._on_change = on_change
        self._loaded: frozenset[Digest] = frozenset()
        self._pinned: frozenset[Digest] = frozenset()
        self._in_production: frozenset[Digest] = frozenset()
        self._queue: dict[Digest, LoadRequest] = {}
        self._hurried: dict[Digest, None] = {}
        self._loading: set[Digest] = set()
        self._failed: dict[Digest, _Failure] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._started = False
        #: True when the engine answered the last question, and what it answered last.
        self.engine_answers, self.state = False, EngineState()

    @property
    def loaded(self) -> frozenset[Digest]:
        """Releases that the engine is known to hold."""
        return self._loaded

    def holds(self, release: Digest, stage: Stage) -> bool:
        """True for a release that the engine holds and has admitted for ``stage``: what was loaded to be tried is not approved thereby."""
        return release in self._loaded and (stage == "staging" or release in self._in_production)

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
            self.state = await self._driver.status()
        except Exception as error:
            self.engine_answers = False
            if not isinstance(error, TailorbirdError):
                raise
            return
        answered, self.engine_answers = self.engine_answers, True
        if self._loaded is known:
            self._now_loaded(frozenset(self.state.loaded))
        if not answered:
            self._on_change(True)

    def want(self, needed: Mapping[Digest, LoadRequest]) -> None:
        """Has loaded, in this order, what is needed and neither loaded as wanted (for its stage; pinned or not), nor being loaded, nor
        waiting for its next attempt; what waited to be loaded and is needed no more is not.
        """
        if self.engine_answers:
            self._started, self._queue = True, {}
            self._enqueue(needed)

    def want_first(self, needed: Mapping[Digest, LoadRequest]) -> None:
        """As ``want``, before all that waits to be loaded, which stays."""
        if self.engine_answers:
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

    def hurry(self, releases: Iterable[Digest]) -> None:
        """A caller waits for releases: they are loaded before others, if they are to be loaded at all."""
        self._hurried |= dict.fromkeys(release for release in releases if release not in self._loading)

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
            # One that a caller waits for and that does not wait for its load will wait, or is loaded, or cannot be: the next request asks.
            self._hurried = {release: None for release in self._hurried if release in self._queue}
            following = next(iter(self._hurried or self._queue))
            self._hurried.pop(following, None)
            await self._load(self._queue.pop(following))

    async def _load(self, request: LoadRequest) -> None:
        release = request.release
        self._loading.add(release)
        try:
            await self._driver.load(request)
        except Exception as error:  # noqa: BLE001 - a defect of a driver is no reason to load nothing else
            if not isinstance(error, TailorbirdError):
                _log.critical("the driver of the engine has a defect", exc_info=error)
                error = Internal("the driver of the engine failed on this release", "look at the gateway's log", code="engine_defect")
            attempts = self._failed[release].attempts + 1 if release in self._failed else 1
            pause = min(_FIRST_PAUSE * 2 ** (attempts - 1), _LONGEST_PAUSE)
            self._failed[release] = _Failure(error, attempts, time.monotonic() + pause)
            if isinstance(error, Unavailable):
                # The engine may be gone, and thousands wait: they are asked for again after the next look, not one by one of nobody.
                self._queue = {}
            level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
            _log.log(level, "release %s was not loaded (%s): %s", short(release), error.error_code, error.message)
        else:
            self._failed.pop(release, None)
            self._loaded |= {release}
            self._pinned = self._pinned | {release} if request.pinned else self._pinned - {release}
            admitted = request.purpose == "production"
            self._in_production = self._in_production | {release} if admitted else self._in_production - {release}
        finally:
            self._loading.discard(release)
            self._on_change(False)

    def _now_loaded(self, held: frozenset[Digest]) -> None:
        self._pinned &= held
        self._in_production &= held
        if held != self._loaded:
            self._loaded = held
            self._on_change(True)


class AliasRecord:
    """What was last read of the record and is as the log anchors it: ``aliases`` by path, ``contents`` of the releases that they name or
    named, and the number of moves that all of it is as of (None before the first reading)."""

    def __init__(self, ledger: Ledger) -> None:
        self.aliases: dict[str, Alias] = {}
        self.contents: dict[Digest, ReleaseContent] = {}
        self.moved: int | None = None
        self._ledger = ledger

    def read(self, *, full: bool) -> Collection[str]:
        """Reads the names that moved since the last reading; where it is ``full``, all that are not as they were known. Returns the paths
        that were read. May wait: for a thread. Raises Unavailable, Corrupt; then all is as it was."""
        with self._ledger.system(write=False) as system:
            moved = system.tenants.aliases_moved()
            if moved == self.moved and not full:
                return ()
            paths: Collection[str] | None = None if full or self.moved is None else system.aliases.moved_since(self.moved)
            newest = system.aliases.newest() if paths is None else {}
        kept = self.aliases
        if paths is None:
            kept = {path: alias for path, at in newest.items() if (alias := self._as_known(path, at))}
            paths = newest.keys() - kept.keys()
        self.aliases, self.moved = kept | self._read_names(paths), moved
        return paths

    def _as_known(self, path: str, newest: tuple[int, datetime | None]) -> Alias | None:
        """The alias as it was read before, where it has not moved since and the record had its releases."""
        known = self.aliases.get(path)
        if known is None or (known.version, known.moved_at) != newest:
            return None
        return known if self.contents.keys() >= set(_named(known)) else None

    def _read_names(self, paths: Collection[str]) -> dict[str, Alias]:
        """Those names, of both stages, with the releases that they name; of one that is not as the log anchors it what was known."""
        names: defaultdict[str, set[str]] = defaultdict(set)
        for path in paths:
            names[path.partition("/")[0]].add(name_and_stage(path)[0])
        found: dict[str, Alias] = {}
        for tenant in sorted(names):
            try:
                with self._ledger.work(tenant, write=False) as work:
                    found |= self._read_tenant(work, names[tenant])
            except Corrupt as error:
                _log.error("names of %s cannot be read and stay as they are (%s): run tailorbird audit verify", tenant, error.error_code)
                found |= {path: self.aliases[path] for path in paths if path.startswith(f"{tenant}/") and path in self.aliases}
        return found

    def _read_tenant(self, work: UnitOfWork, names: Collection[str]) -> dict[str, Alias]:
        rows = {anchored_row(alias).name: alias for alias in work.aliases.all(names if len(names) < _MANY else None, stage=None)}
        found = {alias.path: alias for alias in rows.values()}
        for name in work.anchors.differing({name: anchored_row(alias).digest for name, alias in rows.items()}):
            _log.error(
                "the %s of %s is not what the log says and is not followed: run tailorbird audit verify", row_text(name), work.tenant
            )
            path = rows[name].path
            del found[path]
            if path in self.aliases:
                found[path] = self.aliases[path]
        for release in {release for alias in found.values() for release in _named(alias)} - self.contents.keys():
            # A name that points to a release the record lacks is kept waiting, not allowed to stop the others.
            with suppress(NotFound):
                self.contents[release] = work.releases.get(release).content
        return found


class GatewayHeartbeat:
    """Heartbeat row of the gateway ``gateway``; one without a name writes nothing. May wait for the ledger; what fails is due again."""

    def __init__(self, ledger: Ledger, clock: Clock, gateway: str) -> None:
        self._ledger, self._clock, self._gateway = ledger, clock, gateway
        self._shown, self._at = -1, float("-inf")

    def beat(self, moves: int) -> None:
        """Writes the row, with so many moves followed, where these are new or the last one is old."""
        if not self._gateway or (moves == self._shown and time.monotonic() - self._at <= BEAT_EVERY):
            return
        try:
            with self._ledger.system() as system:
                system.gateways.beat(self._gateway, moves, self._clock.now())
        except TailorbirdError as error:
            _log.warning("the heartbeat could not be written (%s)", error.error_code)
        else:
            self._shown, self._at = moves, time.monotonic()

    def end(self) -> None:
        """Removes the row."""
        if self._shown < 0:
            return
        try:
            with self._ledger.system() as system:
                system.gateways.leave(self._gateway)
        except TailorbirdError as error:
            _log.warning("the heartbeat could not be removed (%s)", error.error_code)
