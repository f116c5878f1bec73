"""Checkpoint shipping to places outside this machine, whose copies prove later that the log was not rewritten.

A place that cannot be reached never stops the work: what it lacks is sent with the next checkpoint. How far each place is stands in
``shipping/`` of the workspace, one small file a place, written anew in one piece; a file that gets checkpoints is asked itself. Nothing is
shipped to a place that has a checkpoint which the log does not continue: the log was cut, put back or rewritten (``find_forks``).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import Field, ValidationError

from tailorbird import auth
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import canonical_json, plain_json
from tailorbird.domain.errors import Conflict, NotFound, TailorbirdError
from tailorbird.domain.event import Checkpoint
from tailorbird.domain.value import Value
from tailorbird.ports.ledger import SystemWork
from tailorbird.ports.signals import Notifier
from tailorbird.system.files import flush, private_folder
from tailorbird.usecases.audit_events import Facts, record, remark
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase

_log = logging.getLogger("tailorbird.checkpoints")

#: A place that was away for long gets the newest of what it missed: each covers all before it.
_MOST_OWED = 100
#: The end of a file in which its newest checkpoint is looked for, in bytes.
_TAIL = 65_536
#: The kind of the events by which an admin settles a fork, and the subject of those about the log itself.
SETTLED, LOG_SUBJECT = "log.fork_settled", "log"


class Notice(Value):
    """Something an operator should see to. ``code`` is stable; the text names no path and no model, and a tenant or its people only where
    ``tenant`` says whose they are."""

    code: str
    text: str
    tenant: str | None = None


class LogFork(Value):
    """A place holds a checkpoint of ``size`` entries with ``root`` (empty: only its size is known), and the log does not continue it."""

    place: str
    size: int
    root: str
    text: str


class _Shipped(Value):
    """How far a place is: it is owed checkpoints of more than ``size`` entries, the last of which had ``root``. ``at``: its last delivery.
    ``alarmed``: a fork was told."""

    size: int
    root: str = ""
    at: datetime | None = None
    problem: str = ""
    alarmed: bool = False


@dataclass(frozen=True)
class _Place:
    """Where checkpoints go. ``name`` is told in logs: a webhook's host alone, since its URL may hold a secret."""

    name: str
    address: str
    deliver: Callable[[Checkpoint], None]
    file: Path | None = None

    def state_file(self, deps: Dependencies) -> Path:
        return deps.workspace / "shipping" / f"{hashlib.sha256(self.address.encode()).hexdigest()[:16]}.json"


def ship(deps: Dependencies, newest: Checkpoint) -> int:
    """Brings every place up to ``newest``; returns how many could not be. Raises nothing but what the ledger raises."""
    places = _places(deps)
    if not places:
        return 0
    with deps.ledger.system(write=False) as system:
        checkpoints = system.events.checkpoints()
    forked = {fork.place for fork in find_forks(deps)}
    return sum(place.name in forked or not _bring_up_to_date(deps, place, checkpoints, newest) for place in places)


def is_owed(deps: Dependencies, newest: Checkpoint) -> bool:
    """True when a place lacks ``newest``."""
    states = [_load(place.state_file(deps)) for place in _places(deps)]
    return any(state is None or state.size < newest.size for state in states)


def notices(deps: Dependencies) -> tuple[Notice, ...]:
    """Notices about checkpoints that do not leave this machine, or late."""
    places = _places(deps)
    found = []
    if not any(_is_away(deps, place) for place in places):
        found.append(Notice(code="checkpoints_stay", text=_STAY_NOWHERE if not places else _STAY_HERE))
    forks = find_forks(deps)
    if forks:
        text = f"{len(forks)} of {len(places)} places for checkpoints hold one that the log does not continue: it was cut or rewritten"
        found.append(Notice(code="log_forked", text=f"{text}; nothing is promoted until an admin settles it: tailorbird audit settle"))
    late = sum(_is_late(deps, place) for place in places)
    if late:
        text = f"{late} of {len(places)} places for checkpoints lack what was logged more than two intervals ago: the server's log says why"
        found.append(Notice(code="checkpoints_late", text=text))
    return tuple(found)


_STAY_NOWHERE = "checkpoints of the log never leave this machine: name a file elsewhere or a webhook in the setting checkpoints"
_STAY_HERE = "every place for checkpoints lies on the disk of the workspace: name one on another machine in the setting checkpoints"


def find_forks(deps: Dependencies) -> tuple[LogFork, ...]:
    """Places whose newest checkpoint the log does not continue, without those that an admin has settled."""
    found = []
    with deps.ledger.system(write=False) as system:
        settled = {(fact["place"], fact["size"], fact["root"]) for fact in _settlements(system)}
        keys = _keys(deps, system)
        for place in _places(deps):
            size, root = _newest_there(deps, place, keys)
            problem = discord(system, size, root)
            if problem and (place.name, size, root) not in settled:
                found.append(LogFork(place=place.name, size=size, root=root, text=f"{place.name}: {problem}"))
    return tuple(found)


def alarm_forks(deps: Dependencies) -> tuple[LogFork, ...]:
    """Finds forks, and tells the log of the process and the receivers of alerts of each once."""
    forks = {fork.place: fork for fork in find_forks(deps)}
    for place in _places(deps):
        state = _load(place.state_file(deps)) or _Shipped(size=0)
        fork = forks.get(place.name)
        if fork is None or state.alarmed:
            continue
        _log.error("the log does not continue the checkpoint at %s; nothing is promoted until an admin settles it", fork.text)
        message = {"kind": "log.forked", "place": fork.place, "size": fork.size, "text": fork.text}
        for notifier in deps.notifiers():
            try:
                notifier.send(message)
            except TailorbirdError as error:
                _log.warning("a fork of the log could not be told: %s", error.message)
        _save(place.state_file(deps), state.model_copy(update={"alarmed": True}))
    return tuple(forks.values())


def forget_forks(deps: Dependencies, forks: Sequence[LogFork]) -> None:
    """Has these places begin anew with the next checkpoint, once an admin has settled their forks."""
    named = {fork.place for fork in forks}
    for place in _places(deps):
        if place.name in named:
            place.state_file(deps).unlink(missing_ok=True)


def _settlements(system: SystemWork) -> Iterator[Mapping[str, object]]:
    return (entry.event.data for entry in system.events.about(LOG_SUBJECT) if entry.event.kind == SETTLED)


def _keys(deps: Dependencies, system: SystemWork) -> tuple[auth.LogKey, ...]:
    """The keys that this log had; none where not even the public half of the present one is here."""
    with suppress(NotFound):
        return auth.keys_of_log(auth.public_of_log(deps.workspace), system.events.about(LOG_SUBJECT))
    return ()


def _newest_there(deps: Dependencies, place: _Place, keys: Sequence[auth.LogKey]) -> tuple[int, str]:
    """Size and root of the newest checkpoint that a place holds, by its own word where it is a file; (0, "") where there is none."""
    state = _load(place.state_file(deps))
    if place.file is not None:
        told = _newest_line(place.file, keys)
        if told is not None:
            return told.size, told.root
    return (state.size, state.root) if state is not None and state.at is not None else (0, "")


def _newest_line(file: Path, keys: Sequence[auth.LogKey]) -> Checkpoint | None:
    """The last line of a file that a key of this log signed."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL))
            lines = opened.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(ValidationError):
            found = Checkpoint.model_validate_json(line)
            if any(_is_by(found, key) for key in keys):
                return found
    return None


def _is_by(checkpoint: Checkpoint, key: auth.LogKey) -> bool:
    try:
        auth.check_note(checkpoint, key.public)
    except TailorbirdError:
        return False
    return True


def is_settled(system: SystemWork, size: int, root: str) -> bool:
    """True where an admin has settled that some place holds this checkpoint."""
    return any((fact["size"], fact["root"]) == (size, root) for fact in _settlements(system))


def discord(system: SystemWork, size: int, root: str) -> str:
    """What tells that the log is no continuation of the tree of ``size`` with ``root``; empty where it is one, as far as can be told."""
    whole = system.events.size()
    if size > whole:
        return f"it holds a checkpoint of {size} entries, and the log has {whole}"
    if root and size and system.events.root_at(size) != root:
        return f"its checkpoint of {size} entries has another root than the log at that size"
    return ""


def _places(deps: Dependencies) -> list[_Place]:
    upkeep = deps.upkeep
    files = [_Place(str(path), str(path.absolute()), _appender(path), path) for path in upkeep.checkpoint_files]
    hooks = [_Place(urlsplit(url).hostname or "webhook", url, _sender(hook)) for url, hook in upkeep.checkpoint_hooks.items()]
    return files + hooks


def _appender(path: Path) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: _append(path, checkpoint)


def _sender(hook: Notifier) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: hook.send({"kind": "log.checkpoint"} | plain_json(checkpoint))


def _append(path: Path, checkpoint: Checkpoint) -> None:
    """Adds one line of JSON, and returns when it is on the disk. A line that a power loss tore is ended first."""
    with path.open("ab+") as file:
        torn = file.tell() > 0 and _last_byte(file.fileno(), file.tell()) != b"\n"
        file.write((b"\n" if torn else b"") + canonical_json(checkpoint) + b"\n")
        flush(file)


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)


def _bring_up_to_date(deps: Dependencies, place: _Place, checkpoints: tuple[Checkpoint, ...], newest: Checkpoint) -> bool:
    """Delivers what the place is owed, oldest first. A place that is new is owed the newest alone."""
    shipped = _load(place.state_file(deps)) or _Shipped(size=newest.size - 1)
    try:
        for checkpoint in _owed(checkpoints, shipped.size):
            place.deliver(checkpoint)
            shipped = _Shipped(size=checkpoint.size, root=checkpoint.root, at=deps.clock.now())
    except (TailorbirdError, OSError) as error:
        problem = error.message if isinstance(error, TailorbirdError) else (error.strerror or type(error).__name__)
        _log.warning("a checkpoint did not reach %s: %s; it goes with the next", place.name, problem)
        shipped = shipped.model_copy(update={"problem": problem})
    _save(place.state_file(deps), shipped)
    return not shipped.problem


def _owed(checkpoints: tuple[Checkpoint, ...], size: int) -> list[Checkpoint]:
    by_size = {checkpoint.size: checkpoint for checkpoint in checkpoints if checkpoint.size > size}
    return [by_size[key] for key in sorted(by_size)[-_MOST_OWED:]]


def _load(file: Path) -> _Shipped | None:
    """None for a place that nothing is known of; a file that cannot be read counts as none, and the place gets a checkpoint twice."""
    try:
        return _Shipped.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _save(file: Path, shipped: _Shipped) -> None:
    try:
        private_folder(file.parent)
        partial = file.with_name(f"{file.name}.{uuid4().hex}")
        partial.write_bytes(canonical_json(shipped))
        partial.replace(file)
    except OSError as error:
        _log.warning("how far checkpoints were shipped cannot be noted in the workspace: %s", error.strerror)


def _is_away(deps: Dependencies, place: _Place) -> bool:
    """True for a webhook, and for a file on another disk than the workspace: as far as can be told from here."""
    if place.address in deps.upkeep.checkpoint_hooks:
        return urlsplit(place.address).hostname not in ("localhost", "127.0.0.1", "::1")
    try:
        return Path(place.address).parent.stat().st_dev != deps.workspace.stat().st_dev
    except OSError:
        return False


def _covered(deps: Dependencies, place: _Place) -> int:
    """How many entries the newest checkpoint covers that the place has; 0 where nothing is known of it."""
    shipped = _load(place.state_file(deps))
    return shipped.size if shipped else 0


def _is_late(deps: Dependencies, place: _Place) -> bool:
    """True when the place lacks an entry that is older than two intervals."""
    if not deps.upkeep.checkpoint_every:
        return False
    covered = _covered(deps, place)
    with deps.ledger.system(write=False) as system:
        if system.events.size() <= covered:
            return False
        (entry,) = islice(system.events.entries(covered, covered + 1), 1)
    return entry.event.at < deps.clock.now() - 2 * deps.upkeep.checkpoint_every


Why = Annotated[str, Field(min_length=1, max_length=2000)]


class Settlement(Value):
    """The forks that were settled."""

    forks: tuple[LogFork, ...]


def demand_no_fork(deps: Dependencies) -> None:
    """Raises Conflict (``log_forked``) while the log does not continue what a place for checkpoints holds, and no admin has settled it."""
    forks = find_forks(deps)
    if forks:
        raise Conflict(
            f"the log does not continue what was shipped: {forks[0].text}",
            "find out who put the record back or changed it; then an admin settles it: tailorbird audit settle --reason ...",
            code="log_forked",
        )


@usecase("audit.settle", "POST", "/api/audit/settlements", Action.SETTLE_LOG)
def settle_forks(deps: Dependencies, actor: Actor, reason: Why) -> Settlement:
    """Settle forks of the log.

    After a backup took the record's place, say: what each place holds is put on record with the reason, and the places begin anew with
    the next checkpoint. Raises Conflict where there is nothing to settle.
    """
    forks = find_forks(deps)
    if not forks:
        raise Conflict("the log continues what every place holds", "there is nothing to settle", code="log_not_forked")
    with deps.ledger.work(actor.tenant) as work:
        why = remark(work, reason)
        for fork in forks:
            facts: Facts = {"place": fork.place, "size": fork.size, "root": fork.root, "reason": why}
            record(work, SETTLED, actor.name, LOG_SUBJECT, deps.clock.now(), facts)
    forget_forks(deps, forks)
    return Settlement(forks=forks)
