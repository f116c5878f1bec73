"""Alias sync: follows moved aliases, has their releases loaded, and routes to them only then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tailorbird.domain.deployment import FALLBACK, SHADOW, Alias, AliasTarget, Stage
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.release import ReleaseContent
from tailorbird.domain.value import Digest
from tailorbird.ports.clock import Clock
from tailorbird.ports.engine import EngineDriver, EngineState, LoadRequest
from tailorbird.ports.ledger import Ledger
from tailorbird.serving.alias_record import AliasChanges, AliasRecord, FolderWatch, GatewayHeartbeat
from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, TrafficArm, arm_name
from tailorbird.serving.release_loader import ReleaseLoader
from tailorbird.system.background_loop import BackgroundLoop
from tailorbird.system.garbage_collection import exempt_present_objects

_log = logging.getLogger("tailorbird.serving")

#: Seconds between two looks at the record, and between two glances in between, which see that a look is due.
_LOOK_EVERY, _GLANCE_EVERY = 0.2, 0.015
#: The same where the system tells of every write: a glance more is for what it may not tell.
_GLANCE_BESIDE_A_WATCH = 0.25
#: How many times as long a look may wait where every name answers as the record says: then only a move is news, and glances see it. Of a
#: process that rests, whole looks take one part of so many.
_AT_REST, _OF_REST = 10, 50
#: A look at names that wait which kept others waiting for more seconds than this is followed by a pause so many times as long; after a
#: whole one only the next whole one waits so long, and comes by itself after twice that.
_LONG, _PAUSES = 0.005, 4
#: Seconds after a notice of the system in which no other one is taken.
_DEAF = 0.015
#: Seconds between two questions to the engine what it holds and does, and while it answers nobody: who keeps it alive tells of its end.
_ASK_EVERY, _ASK_AN_IDLE_ONE_EVERY = 1.0, 5.0
#: Names that are new since objects were last exempted from garbage collection, and the growth, from which on it is done again.
_MANY, _GROWTH = 500, 1.25
#: A table that was not compared with the record for this long is stale.
_STALE_AFTER = 5.0


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


class AliasSync:
    """Watches and loads between ``start`` and ``stop``. Former targets stay loaded for ``keep_former``.

    A name moves to its new releases when they are loaded; until then, and when they cannot be loaded, the former ones answer. Former
    targets stay loaded so that a rollback needs no load.

    A look is whole now and then, and when the engine turns out to hold other releases; in between it is at names that moved or wait.
    """

    def __init__(
        self, ledger: Ledger, driver: EngineDriver, clock: Clock, keep_former: timedelta = timedelta(seconds=600), gateway: str = ""
    ) -> None:
        self.routes = AliasRoutes(self._hurry)
        self.engine_state = EngineState()
        #: The folder in which every commit writes something, where the record is a file of this machine; to be said before the start.
        self.written_in: Path | None = None
        self._driver = driver
        self._life = GatewayHeartbeat(ledger, clock, gateway)
        self._glance = AliasChanges(ledger)
        self._record = AliasRecord(ledger)
        self._clock = clock
        self._needed = NeededReleases(self._record, self.routes, keep_former)
        #: Names that did not answer as the record says after the last look, and those that may still gain a shadow or a fallback.
        self._behind: dict[str, Alias] = {}
        self._growing: set[str] = set()
        #: Names that answer as this version of theirs says, and are not looked at again before it is another.
        self._settled: dict[str, Alias] = {}
        self._read_at = float("-inf")
        #: Seconds of processor time in which the last look kept everybody waiting, where it was not whole; seconds of the last whole one.
        self._took = self._whole_took = 0.0
        #: When the last whole look ended, and since when names wait.
        self._whole_at = self._waiting_since = float("-inf")
        #: Live names at the moment when they and all else were exempted from garbage collection.
        self._exempt = 0
        self._legible = True
        self._awake = asyncio.Event()
        self._changed, self._whole = False, True
        self._ticking: asyncio.TimerHandle | None = None
        self._until = float("-inf")
        self._watch: FolderWatch | None = None
        self._suspect = asyncio.Event()
        self._loader = ReleaseLoader(driver, self._wake)
        self.loops = (BackgroundLoop("watch of names", self._watch_record), BackgroundLoop("watch of the engine", self._watch_engine))

    async def start(self) -> None:
        """Starts the watch; returns at once, with nothing live yet."""
        with suppress(OSError):
            self._watch = FolderWatch(self.written_in) if self.written_in else None
        self._listen()
        for loop in self.loops:
            loop.start()

    async def stop(self) -> None:
        """Ends the watch. What is loaded stays loaded."""
        await asyncio.gather(*(loop.stop() for loop in self.loops))
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.descriptor)
            self._watch.close()
            self._watch = None
        await self._loader.stop()
        await asyncio.to_thread(self._life.end)

    def readiness(self) -> Readiness:
        """Present readiness."""
        unsettled = _others(self._record.aliases, self._settled)
        held = _held(unsettled.values(), self._record, self._loader)
        behind = sum(_is_unready(self.routes.live(path), alias, held[alias.stage], self._loader) for path, alias in unsettled.items())
        fresh = time.monotonic() - self._read_at < _STALE_AFTER
        return Readiness(fresh, self._loader.engine_answers, self.routes.live_count, behind)

    def doubt(self, path: str = "") -> None:
        """Asks the engine at once what it holds, after it was started anew, or lacked what answers the name ``path``: what the name points
        to by now, which may be another release, is loaded before others."""
        self._hurry(path)
        self._suspect.set()

    def _hurry(self, path: str) -> None:
        """Somebody waits for the name."""
        if (alias := self._record.aliases.get(path)) is not None:
            for release in alias.asked:
                self._loader.hurry(alias.tenant, release)

    async def _watch_record(self) -> None:
        self._changed = False
        await self._look()
        if self._took > _LONG:
            # Thousands of names: a look for each of as many loads would leave no time to answer anybody.
            await asyncio.sleep(_PAUSES * self._took)
        await self._until_due()

    def _wake(self, whole: bool) -> None:
        """A release was loaded, or could not be; ``whole``: the engine holds others than was known."""
        self._changed = True
        self._whole |= whole
        self._awake.set()

    async def _until_due(self) -> None:
        """Returns when a release was loaded, an alias has moved, or the last look is long enough ago."""
        self._until = min(self._whole_due(), time.monotonic() + _LOOK_EVERY * (_AT_REST if self._rests() else 1))
        while not self._changed and time.monotonic() < self._until:
            self._awake.clear()
            self._tick()
            await self._awake.wait()
            if self._legible and not self._changed and await self._glance.sees_a_move(self._record.moved):
                return

    def _tick(self) -> None:
        """Glances, and again a moment later, until there is something to do. A callback costs a tenth of what waking a task does."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._changed or time.monotonic() >= self._until or (self._legible and self._glance.is_due()):
            self._awake.set()
        else:
            told = self._watch is not None and not (self._legible and self._glance.is_behind())
            pause = _GLANCE_BESIDE_A_WATCH if told else _GLANCE_EVERY
            self._ticking = asyncio.get_running_loop().call_later(min(pause, self._until - time.monotonic()), self._tick)

    def _stirred(self) -> None:
        """Something was written beside the record, or into it: glances now, and listens again a moment later. Every request writes its row
        in several pieces, and being woken by each of them took a twentieth of what a request takes."""
        if self._watch is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._watch.descriptor)
        loop.call_later(_DEAF, self._listen)
        self._watch.drain()
        if not self._awake.is_set():
            self._tick()

    def _listen(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().add_reader(self._watch.descriptor, self._stirred)

    def _is_idle(self) -> bool:
        """True where the engine answers nobody, and no name waits for it."""
        return self._rests() and not (self.routes.in_use or self.engine_state.running or self.engine_state.waiting)

    def _whole_due(self) -> float:
        """When the next look is whole: soon where the engine holds others than was known, or names wait for longer than a load takes."""
        if self._rests():
            due = self._whole_at + max(_LOOK_EVERY * _AT_REST, _OF_REST * self._whole_took)
        else:
            due = max(self._whole_at, self._waiting_since) + max(_LOOK_EVERY, 2 * _PAUSES * self._whole_took)
        return min(due, self._whole_at + _PAUSES * self._whole_took) if self._whole else due

    def _rests(self) -> bool:
        """True where nothing is to be waited for but a move."""
        return self._legible and self._loader.engine_answers and not self._behind

    async def _watch_engine(self) -> None:
        await self._loader.refresh()
        with suppress(TailorbirdError):
            self.engine_state = await self._driver.state()
        await self._loader.unload(self._loader.loaded - self._needed.at(self._clock.now()).keys() - self.routes.in_use)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._suspect.wait(), _ASK_AN_IDLE_ONE_EVERY if self._is_idle() else _ASK_EVERY)
        self._suspect.clear()

    async def _look(self) -> None:
        moved: Collection[str] | None = ()
        try:
            moved = await asyncio.to_thread(self._record.read)
        except TailorbirdError as error:
            self._legible = False
            _log.warning("the record could not be read (%s); names stay as they are", error.error_code)
        else:
            self._legible, self._read_at = True, time.monotonic()
        started, now, waited = time.thread_time(), time.monotonic(), bool(self._behind)
        if moved is None or now >= self._whole_due():
            self._compare_all()
            self._whole_at = time.monotonic()
            self._took, self._whole_took = 0.0, self._whole_at - now
        else:
            self._compare(moved)
            self._took = time.thread_time() - started
        if not waited:
            self._waiting_since = now
        if self._record.moved is not None and not self._is_under_way():
            await asyncio.to_thread(self._life.show, self._record.moved)

    def _is_under_way(self) -> bool:
        """True while a name waits for a release that may still be loaded."""
        return any(not any(self._loader.failure(release) for release in alias.asked) for alias in self._behind.values())

    def _compare_all(self) -> None:
        """Has loaded what any name needs, and lets every name answer with what the record says, as far as that is loaded."""
        self._whole = False
        self._loader.want(self._needed.at(self._clock.now()))
        if self._record.moved is not None:
            self.routes.keep_only(set(self._record.aliases))
        self._behind, self._growing, unsettled = {}, set(), _others(self._record.aliases, self._settled)
        self._settled = {path: alias for path, alias in self._record.aliases.items() if path not in unsettled}
        self._settle(unsettled.values())
        if self.routes.live_count > _GROWTH * self._exempt + _MANY:
            self._exempt = self.routes.live_count
            exempt_present_objects(walk=False)

    def _compare(self, moved: Collection[str]) -> None:
        """As ``_compare_all``, for names that moved, and for those that wait. What names need no more is found by the next whole look."""
        aliases = self._record.aliases
        asked = strictest(load_of(alias, release) for path in moved if (alias := aliases.get(path)) for release in alias.asked)
        self._loader.want_first({release: load for release, load in asked.items() if not self._loader.holds(release, load.purpose)})
        open_ones = {*moved, *self._behind, *self._growing}
        self._settle([aliases[path] for path in open_ones if path in aliases])

    def _settle(self, aliases: Collection[Alias]) -> None:
        """Lets names answer with what the record says, as far as that is loaded."""
        by_stage = _held(aliases, self._record, self._loader)
        for alias in aliases:
            path, held = alias.path, by_stage[alias.stage]
            self._behind.pop(path, None)
            self._growing.discard(path)
            self._settled.pop(path, None)
            if _is_withdrawn(alias):
                self.routes.withdraw(alias)
                self._settled[path] = alias
                continue
            if _is_behind(self.routes.live(path), alias, held) or _lacks_shadow(self.routes.live(path), alias, held):
                self._advance(path, alias, held)
                if _is_behind(self.routes.live(path), alias, held):
                    self._behind[path] = alias
            if (route := self.routes.live(path)) is not None and _may_grow(route, alias):
                self._growing.add(path)
            elif path not in self._behind:
                self._settled[path] = alias

    def _advance(self, path: str, alias: Alias, held: Mapping[Digest, ReleaseContent]) -> None:
        usable = tuple(target for target in alias.targets if target.release in held)
        failures = [failure for target in alias.targets if (failure := self._loader.failure(target.release))]
        missing, first = len(alias.targets) - len(usable), self.routes.live(path) is None
        # One arm that cannot be loaded must not silence a name that has another.
        if usable and (missing == 0 or (first and missing == len(failures))):
            self.routes.go_live(_route(alias, usable, held))
        elif first:
            self.routes.wait(path, failures[0] if failures else None, loading=any(map(self._loader.is_under_way, alias.asked)))


def _others(aliases: Mapping[str, Alias], settled: Mapping[str, Alias]) -> dict[str, Alias]:
    """Names that do not answer as the record says, as far as is known, or to which a shadow or a fallback may still be added."""
    return {path: alias for path, alias in aliases.items() if settled.get(path) is not alias}


def _held(aliases: Collection[Alias], record: AliasRecord, loader: ReleaseLoader) -> dict[Stage, dict[Digest, ReleaseContent]]:
    """The releases that are loaded for each stage, of those that ``aliases`` name."""
    held: dict[Stage, dict[Digest, ReleaseContent]] = {"production": {}, "staging": {}}
    for alias in aliases:
        for release in (*alias.asked, *(target.release for target in alias.previous)):
            if loader.holds(release, alias.stage) and release in record.contents:
                held[alias.stage][release] = record.contents[release]
    return held


def _route(alias: Alias, usable: tuple[AliasTarget, ...], held: Mapping[Digest, ReleaseContent]) -> AliasRoute:
    """The route of an alias whose targets ``usable`` are loaded."""
    arms = {}
    for position, target in enumerate(alias.targets):
        if target in usable:
            arm = _arm(alias, arm_name(position), target.release, held)
            arms[target.release] = _with_fallback(arm, alias, held)
    mirror = _arm(alias, SHADOW, alias.mirror, held) if alias.mirror is not None and alias.mirror in held else None
    return AliasRoute(alias.model_copy(update={"targets": usable}), arms, mirror)


def _is_behind(route: AliasRoute | None, alias: Alias, held: Mapping[Digest, ReleaseContent]) -> bool:
    """True when the route of a name does not yet answer with all targets of the alias; ``held`` is what is loaded."""
    if _is_withdrawn(alias):
        return False
    if route is None or (route.alias.targets, route.alias.version) != (alias.targets, alias.version):
        return True
    return any(arm.hosted and not arm.fallback and _with_fallback(arm, alias, held).fallback for arm in route.arms.values())


def _is_unready(route: AliasRoute | None, alias: Alias, held: Mapping[Digest, ReleaseContent], loader: ReleaseLoader) -> bool:
    """True when a name is behind, or nothing stands in for its hosted model yet and what could is being loaded for the first time."""
    alone = route is not None and any(arm.hosted and not arm.fallback for arm in route.arms.values())
    return _is_behind(route, alias, held) or (alone and any(loader.is_first_load(target.release) for target in alias.previous))


def _lacks_shadow(route: AliasRoute | None, alias: Alias, held: Mapping[Digest, ReleaseContent]) -> bool:
    """True when the name answers, and its shadow is loaded and not asked: nobody is answered by it, so that nothing waits for it."""
    return route is not None and route.mirror is None and alias.mirror is not None and alias.mirror in held


def _may_grow(route: AliasRoute, alias: Alias) -> bool:
    """True when a release that is loaded later may be added to a route that is as the record says: its shadow, or a fallback."""
    return (alias.mirror is not None and route.mirror is None) or any(arm.hosted and not arm.fallback for arm in route.arms.values())


def _arm(alias: Alias, name: str, release: Digest, held: Mapping[Digest, ReleaseContent]) -> TrafficArm:
    content = held[release]
    referral = (content.refer_below, content.refer_pattern)
    told = (content.task, content.prompt, content.retrieval, *referral, content.hosted, content.scope)
    return TrafficArm(name, release, *told, path=alias.path)


def _with_fallback(arm: TrafficArm, alias: Alias, held: Mapping[Digest, ReleaseContent]) -> TrafficArm:
    """A hosted arm with the release that answers where it does not: another target of the name, else one that it had before; of this
    machine, of the same task, and loaded."""
    if arm.hosted is None:
        return arm
    others = [target.release for target in (*alias.targets, *alias.previous) if target.release != arm.release]
    usable = [release for release in others if release in held and held[release].hosted is None and held[release].task is arm.task]
    return replace(arm, fallback=_arm(alias, FALLBACK, usable[0], held)) if usable else arm


def _is_withdrawn(alias: Alias) -> bool:
    return not any(target.weight > 0 for target in alias.targets)


_Loads = Sequence[tuple[Digest, LoadRequest]]


class _NamedLoads(NamedTuple):
    """What an alias has loaded: its targets, what it left, and its shadow."""

    alias: Alias
    targets: _Loads
    former: _Loads
    shadow: _Loads


class NeededReleases:
    """What an engine must hold of all names of a record. What one name asks is worked out once for each of its versions: ten thousand
    names are gone through at each look."""

    def __init__(self, record: AliasRecord, routes: AliasRoutes, keep_former: timedelta) -> None:
        self._record, self._routes, self._keep_former = record, routes, keep_former
        self._known: dict[str, _NamedLoads] = {}

    def at(self, now: datetime) -> dict[Digest, LoadRequest]:
        """What must be loaded, most urgent first: targets of names that are answered by what they left, all targets, what still answers a
        name, then what aliases left within ``keep_former``, and what stands in for hosted models (pinned)."""
        asked = {path: self._of(path, alias) for path, alias in self._record.aliases.items()}
        self._known = asked
        moved, answering, former = list[_Loads](), list[_Loads](), list[_Loads]()
        for path, one in asked.items():
            route = self._routes.live(path)
            if route is not None and route.alias.version != one.alias.version:
                moved.append(one.targets)
                answering.append(_loads(route.alias, route.alias.targets))
            if one.former and (now - one.alias.moved_at < self._keep_former or _hosted(one.alias, self._record)):
                former.append(one.former)
        targets, shadows = (one.targets for one in asked.values()), (one.shadow for one in asked.values() if one.shadow)
        return strictest(request for loads in (*moved, *targets, *answering, *former, *shadows) for _, request in loads)

    def _of(self, path: str, alias: Alias) -> _NamedLoads:
        known = self._known.get(path)
        if known is not None and known.alias is alias:
            return known
        former = tuple((each.release, _request(alias.tenant, each.release, alias.stage, pinned=True)) for each in alias.previous)
        shadow = ((alias.mirror, load_of(alias, alias.mirror)),) if alias.mirror is not None else ()
        return _NamedLoads(alias, _loads(alias, alias.targets), former, shadow)


def strictest(loads: Iterable[LoadRequest]) -> dict[Digest, LoadRequest]:
    """One load of each release, as asked first; for production where any asks for that."""
    needed: dict[Digest, LoadRequest] = {}
    for request in loads:
        known = needed.setdefault(request.release, request)
        if request.purpose == "production" != known.purpose:
            needed[request.release] = _request(request.tenant, request.release, "production", pinned=known.pinned)
    return needed


def _loads(alias: Alias, targets: Sequence[AliasTarget]) -> _Loads:
    return tuple((target.release, load_of(alias, target.release)) for target in targets)


def load_of(alias: Alias, release: Digest) -> LoadRequest:
    """The load of a release that an alias asks."""
    return _request(alias.tenant, release, "production" if release == alias.mirror else alias.stage)


def _hosted(alias: Alias, record: AliasRecord) -> bool:
    """True where an endpoint answers for one of the alias's targets: what answered before must be able to."""
    return any(target.release in record.contents and record.contents[target.release].hosted for target in alias.targets)


@lru_cache(maxsize=65536)
def _request(tenant: str, release: Digest, purpose: Stage, *, pinned: bool = False) -> LoadRequest:
    """One for each release: they are compared and kept by the thousand."""
    return LoadRequest(tenant=tenant, release=release, purpose=purpose, pinned=pinned)
