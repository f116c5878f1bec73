"""One replica of an engine, as this gateway sees it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.engine_replica import ReplicaDrain
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import EngineDriver, LoadRequest

_log = logging.getLogger("tailorbird.serving")

#: Seconds for which no copy is tried where a replica has refused the release; what nobody holds is tried there last.
_REFUSED_FOR = 60.0


@dataclass(eq=False)
class EngineReplica:
    """The releases that a replica holds, each with the moment at which it was asked last, those that it refused, with the moment, and
    requests under way: put to it here (``busy``), and by other gateways when they last told (``elsewhere``).

    ``changes`` counts loads and unloads: a list that was told before one is overtaken. ``changed`` is called when it ceases to answer.
    ``heard``: it has answered this gateway; an engine that is only starting is no news.
    """

    driver: EngineDriver
    address: str
    held: dict[Digest, float] = field(default_factory=dict)
    refused: dict[Digest, float] = field(default_factory=dict)
    asked: Counter[Digest] = field(default_factory=Counter)
    busy: int = 0
    elsewhere: int = 0
    away: bool = False
    heard: bool = False
    drain: ReplicaDrain | None = None
    changes: int = 0
    changed: Callable[[EngineReplica], None] = lambda _: None

    @property
    def under_way(self) -> int:
        """Requests that it answers, whoever asked."""
        return self.busy + self.elsewhere

    @property
    def may_load(self) -> bool:
        """True where it answers and is not drained."""
        return not self.away and self.drain is None

    def answers_for(self, release: Digest) -> bool:
        """True where it holds the release and may be asked, at least while no other holds it."""
        return release in self.held and not self.away and not (self.drain is not None and self.drain.forced)

    def hold(self, release: Digest) -> None:
        """It has loaded a release."""
        self.heard = True
        self.refused.pop(release, None)
        self.held[release] = time.monotonic()
        self.changes += 1

    def drop(self, release: Digest) -> None:
        """It does not hold a release any more."""
        self.held.pop(release, None)
        self.changes += 1

    def has_refused(self, release: Digest) -> bool:
        """True where it refused to load the release lately."""
        return time.monotonic() - self.refused.get(release, float("-inf")) < _REFUSED_FOR

    def begin(self, release: Digest) -> None:
        """A request is put to it."""
        self.busy += 1
        self.asked[release] += 1

    def end(self, release: Digest) -> None:
        """A request that was put to it has ended."""
        self.busy -= 1
        self.asked[release] -= 1
        if not self.asked[release]:
            del self.asked[release]
        if release in self.held:
            self.held[release] = time.monotonic()

    async def answers(self) -> bool:
        """Asks; what the record or a store of keys is to blame for is no fault of the engine."""
        if not await self.driver.ready():
            self.leave("not ready")
        return not self.away

    def leave(self, why: str) -> None:
        """It does not answer."""
        if not self.away:
            yet = "" if self.heard else " yet"
            _log.warning("the replica %s of the engine does not answer%s (%s); others are asked", self.address, yet, why)
            self.away = True
            self.changed(self)

    async def take(self, request: LoadRequest) -> None:
        """Loads a release. Raises as ``EngineDriver.load``."""
        try:
            await self.driver.load(request)
        except TailorbirdError as error:
            if not isinstance(error, Unavailable) or await self.answers():
                self.refused[request.release] = time.monotonic()
            raise
        self.hold(request.release)

    async def take_out(self, release: Digest) -> None:
        """Unloads; what cannot be is tried again when the replica is looked at, where nobody wants it there."""
        self.drop(release)
        try:
            await self.driver.unload(release)
        except TailorbirdError as error:
            _log.warning("release %s was not unloaded by a replica: %s", short(release), error.error_code)

    def told(self, held: Sequence[Digest]) -> None:
        """It answers, and holds these."""
        now = time.monotonic()
        if self.away and self.heard:
            _log.warning("the replica %s of the engine answers again, with %d releases", self.address, len(held))
        elif self.away:
            _log.info("the replica %s of the engine answers, with %d releases", self.address, len(held))
        self.heard, self.away, self.held = True, False, {release: self.held.get(release, now) for release in held}
