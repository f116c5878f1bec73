"""Alias record: every tenant's aliases as the record has them and the log anchors them, with the releases that they name."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tailorbird.crypto.anchored_rows import anchored_row, row_text
from tailorbird.domain.deployment import Alias, name_and_stage
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.release import ReleaseContent
from tailorbird.domain.value import Digest
from tailorbird.ports.clock import Clock
from tailorbird.ports.ledger import Ledger, UnitOfWork

_log = logging.getLogger("tailorbird.serving")

#: From so many names of a tenant on, all of its are read, in a statement that names none.
_MANY = 500


class AliasRecord:
    """What was last read: ``aliases`` by path, ``contents`` of the releases that they name or named, and the number of moves
    that all of it is as of (None before the first reading)."""

    def __init__(self, ledger: Ledger) -> None:
        self.aliases: dict[str, Alias] = {}
        self.contents: dict[Digest, ReleaseContent] = {}
        self.moved: int | None = None
        self._ledger = ledger
        #: Names to be read again whenever any has moved: what they name is not in the record, or they are not as the log anchors them.
        self._doubtful: frozenset[str] = frozenset()
        #: True after a reading that failed: a server that took another's place may lack moves, and have as many others.
        self._unsure = False

    def read(self) -> Collection[str] | None:
        """Reads what has moved since the last reading. Returns the paths that were read; None: any may be another now.

        May wait: for a thread. Raises Unavailable, Corrupt; then all is as it was, and the next reading compares every name.
        """
        unsure, self._unsure = self._unsure, True
        read = self._read(compares=unsure or self.moved is None)
        self._unsure = False
        return read

    def _read(self, *, compares: bool) -> Collection[str] | None:
        with self._ledger.system(write=False) as system:
            moved = system.tenants.aliases_moved()
            if moved == self.moved and not compares:
                return ()
            paths = None if compares or self.moved is None else system.aliases.moved_since(self.moved)
            newest = system.aliases.newest() if paths is None else {}
        if paths is None:
            self._adopt(moved, newest)
            return None
        read = self._read_names(paths | self._doubtful)
        self.aliases, self.moved = self.aliases | read, moved
        return read

    def _adopt(self, moved: int, newest: Mapping[str, tuple[int, datetime | None]]) -> None:
        """All names of the record. Those are not read that stand as they were known."""
        known = {path: alias for path, at in newest.items() if (alias := self._as_known(path, at))}
        read = self._read_names(newest.keys() - known.keys())
        self.aliases, self.moved = known | read, moved

    def _read_names(self, paths: Collection[str]) -> dict[str, Alias]:
        """Those names, of both stages, with the releases that they name; of one that is not as the log anchors it what was known."""
        names: defaultdict[str, set[str]] = defaultdict(set)
        for path in paths:
            names[path.partition("/")[0]].add(name_and_stage(path)[0])
        found: dict[str, Alias] = {}
        differing: set[str] = set()
        for tenant in sorted(names):
            try:
                here, others = self._read_tenant(tenant, names[tenant])
            except Corrupt as error:
                _log.error("names of %s cannot be read and stay as they are (%s): run tailorbird audit verify", tenant, error.error_code)
                others = {path for path in paths if path.startswith(f"{tenant}/")}
                here = {path: self.aliases[path] for path in others & self.aliases.keys()}
            found |= here
            differing |= others
        self._doubtful = frozenset(differing | {path for path, alias in found.items() if not _named(alias) <= self.contents.keys()})
        return found

    def _read_tenant(self, tenant: str, names: Collection[str]) -> tuple[dict[str, Alias], set[str]]:
        """Names of one tenant, and the paths of those that are not as the log anchors them. Raises Corrupt."""
        with self._ledger.work(tenant, write=False) as work:
            aliases = work.aliases.all(names if len(names) < _MANY else None, stage=None)
            differing = self._differing(work, aliases)
            known = (self.aliases.get(alias.path) if alias.path in differing else alias for alias in aliases)
            here = {alias.path: alias for alias in known if alias is not None}
            for release in {release for alias in here.values() for release in _named(alias)} - self.contents.keys():
                # A name that points to a release the record lacks is kept waiting, not allowed to stop the others.
                with suppress(NotFound):
                    self.contents[release] = work.releases.get(release).content
        return here, differing

    def _differing(self, work: UnitOfWork, aliases: Sequence[Alias]) -> set[str]:
        """Paths of those that are not as the log anchors them. Raises Corrupt."""
        rows = {anchored_row(alias).name: alias for alias in aliases}
        differing = work.anchors.differing({name: anchored_row(alias).digest for name, alias in rows.items()})
        for name in differing:
            _log.error(
                "the %s of %s is not what the log says and is not followed: run tailorbird audit verify", row_text(name), work.tenant
            )
        return {rows[name].path for name in differing}

    def _as_known(self, path: str, newest: tuple[int, datetime | None]) -> Alias | None:
        """The alias as it was read before, where it has not moved since and the record had its releases."""
        known = self.aliases.get(path)
        if known is None or (known.version, known.moved_at) != newest:
            return None
        return known if _named(known) <= self.contents.keys() else None


def _named(alias: Alias) -> set[Digest]:
    """The releases that answer under the name, may, or did."""
    return {*alias.asked, *(target.release for target in alias.previous)}


#: IN_MODIFY, IN_MOVED_TO, IN_CREATE: what a commit does to the files of a database.
_WRITES = 0x2 | 0x80 | 0x100
_MOST_BYTES = 64 * 1024


class FolderWatch:
    """Watch over the files in ``folder``, without subfolders. Raises OSError where the system offers none.

    A folder on the network may hold back what other machines write: nobody may rely on a watch alone.
    """

    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux":
            raise OSError(f"no watch on {sys.platform}")
        system = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0 or system.inotify_add_watch(self.descriptor, os.fsencode(folder), ctypes.c_uint32(_WRITES)) < 0:
            code = ctypes.get_errno()
            self.close()
            raise OSError(code, os.strerror(code), str(folder))

    def drain(self) -> None:
        """Reads pending notices; where there are more than one reading takes, the descriptor stays readable."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, _MOST_BYTES)

    def close(self) -> None:
        """Ends the watch."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


#: Seconds at least between two questions: under traffic every row changes the pulse. Where there is none, each is a way over the network.
_ASK_EVERY, _ASK_A_SERVER_EVERY = 0.04, 0.1


class AliasChanges:
    """Polling state of one watcher of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pulse: object | None = None
        self._asked_at = float("-inf")

    def is_due(self) -> bool:
        """True when the database must be queried: its change counter moved, or it has none. Takes microseconds."""
        return self._is_due(self._ledger.pulse(), time.monotonic())

    def is_behind(self) -> bool:
        """True while a write has not been followed by a query."""
        pulse = self._ledger.pulse()
        return bool(pulse) and pulse != self._pulse

    def _is_due(self, pulse: object | None, now: float) -> bool:
        asked_lately = now - self._asked_at < (_ASK_EVERY if pulse else _ASK_A_SERVER_EVERY)
        return not asked_lately and not (pulse and pulse == self._pulse)

    async def sees_a_move(self, since: int | None) -> bool:
        """True when the number of alias moves is no longer ``since``. An unreadable ledger shows none."""
        pulse, now = self._ledger.pulse(), time.monotonic()
        if not self._is_due(pulse, now):
            return False
        # Read before the number: a commit in between changes it once more.
        self._pulse, self._asked_at = pulse, now
        try:
            return await asyncio.to_thread(self._moves) != since
        except TailorbirdError:
            return False

    def _moves(self) -> int:
        with self._ledger.system(write=False) as system:
            return system.tenants.aliases_moved()


#: Seconds between two heartbeats, and after which one is too old to count.
BEAT_EVERY, GONE_AFTER = 5.0, 15.0


class GatewayHeartbeat:
    """Heartbeat row of the gateway ``gateway``; one without a name writes nothing."""

    def __init__(self, ledger: Ledger, clock: Clock, gateway: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._gateway = gateway
        self._shown = -1
        self._at = float("-inf")

    def show(self, moves: int) -> None:
        """Writes the row when it is due. May wait for the ledger; what fails is tried again at the next call."""
        due = moves != self._shown or time.monotonic() - self._at > BEAT_EVERY
        if not self._gateway or not due:
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
