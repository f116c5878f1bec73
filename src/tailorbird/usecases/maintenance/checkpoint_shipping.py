"""Checkpoint shipping to places outside this machine, whose copies prove later that the log was not rewritten.

A place that cannot be reached never stops the work: what it lacks is sent with the next checkpoint. How far each place is stands in
``shipping/`` of the workspace, one small file a place, written anew in one piece.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import ValidationError

from tailorbird.crypto.canonical_json import canonical_json, plain_json
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.event import Checkpoint
from tailorbird.domain.value import Value
from tailorbird.ports.signals import Notifier
from tailorbird.system.files import flush, private_folder
from tailorbird.usecases.dependencies import Dependencies, MaintenanceSettings

_log = logging.getLogger("tailorbird.checkpoints")

#: A place that was away for long gets the newest of what it missed: each covers all before it.
_MOST_OWED = 100


class Notice(Value):
    """Something an operator should see to. ``code`` is stable; the text names no path, no tenant, no model."""

    code: str
    text: str


class _Shipped(Value):
    """How far a place is: it is owed checkpoints of more than ``size`` entries. ``at`` is its last delivery."""

    size: int
    at: datetime | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Place:
    """Where checkpoints go. ``name`` is told in logs: a webhook's host alone, since its URL may hold a secret."""

    name: str
    address: str
    deliver: Callable[[Checkpoint], None]

    def state_file(self, deps: Dependencies) -> Path:
        return deps.workspace / "shipping" / f"{hashlib.sha256(self.address.encode()).hexdigest()[:16]}.json"


def ship(deps: Dependencies, newest: Checkpoint) -> int:
    """Brings every place up to ``newest``; returns how many could not be. Raises nothing but what the ledger raises."""
    places = _places(deps.upkeep)
    if not places:
        return 0
    with deps.ledger.system(write=False) as system:
        checkpoints = system.events.checkpoints()
    return sum(not _bring_up_to_date(deps, place, checkpoints, newest) for place in places)


def is_owed(deps: Dependencies, newest: Checkpoint) -> bool:
    """True when a place lacks ``newest``."""
    states = [_load(place.state_file(deps)) for place in _places(deps.upkeep)]
    return any(state is None or state.size < newest.size for state in states)


def notices(deps: Dependencies) -> tuple[Notice, ...]:
    """Notices about checkpoints that do not leave this machine, or late."""
    upkeep = deps.upkeep
    places = _places(upkeep)
    found = []
    if not any(_is_away(deps, place) for place in places):
        found.append(Notice(code="checkpoints_stay", text=_STAY_NOWHERE if not places else _STAY_HERE))
    with deps.ledger.system(write=False) as system:
        size = system.events.size()
    ahead = sum(_covered(deps, place) > size for place in places)
    if ahead:
        text = f"{ahead} of {len(places)} places for checkpoints hold one of more entries than the log has: it was cut, or is a backup's"
        found.append(Notice(code="log_shorter_than_shipped", text=text))
    late = sum(_is_late(deps, place) for place in places)
    if late:
        text = f"{late} of {len(places)} places for checkpoints lack what was logged more than two intervals ago: the server's log says why"
        found.append(Notice(code="checkpoints_late", text=text))
    return tuple(found)


_STAY_NOWHERE = "checkpoints of the log never leave this machine: name a file elsewhere or a webhook in the setting checkpoints"
_STAY_HERE = "every place for checkpoints lies on the disk of the workspace: name one on another machine in the setting checkpoints"


def _places(upkeep: MaintenanceSettings) -> list[_Place]:
    files = [_Place(str(path), str(path.absolute()), _appender(path)) for path in upkeep.checkpoint_files]
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
            shipped = _Shipped(size=checkpoint.size, at=deps.clock.now())
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
