"""The condition of this machine's workspace: can the record be written, is there room, do checkpoints leave, is the clock right, is an
erasure overdue?

In: opened parts. Out: what an operator should see to. Must not know: who asks, engines.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from uuid import uuid4

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.value import Value
from tailorbird.lifecycle.parts import Parts
from tailorbird.lifecycle.upkeep import overdue, shipping, timekeeping
from tailorbird.lifecycle.upkeep.shipping import Notice


class Condition(Value):
    """``writable`` is False when the record cannot be written: then no request can be answered. Notices alone stop nothing."""

    writable: bool
    notices: tuple[Notice, ...] = ()


def examine(parts: Parts) -> Condition:
    """Looks at everything now. May wait as long as the record's lock is held by somebody."""
    record = _record(parts)
    found = [notice for look in _LOOKS for notice in look(parts)]
    if record is not None:
        return Condition(writable=False, notices=(record, *found))
    asked = [notice for look in (shipping.notices, timekeeping.notices, overdue.notices) for notice in _asked(parts, look)]
    return Condition(writable=True, notices=(*found, *asked))


def _record(parts: Parts) -> Notice | None:
    """Takes the write lock and gives it back: nothing else shows that a database can be written."""
    file = parts.upkeep.record_file
    if file is not None and not file.exists():
        # Open connections would go on writing into a file that nobody finds again.
        return Notice(code="record_missing", text="the file of the record is gone: put it back, or restore a backup")
    try:
        with parts.ledger.system():
            return None
    except TailorbirdError as error:
        return Notice(code="record_unwritable", text=f"the record cannot be written ({error.error_code})")


def _workspace(parts: Parts) -> list[Notice]:
    probe = parts.workspace / f".probe-{uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return [Notice(code="workspace_unwritable", text=f"the workspace cannot be written: {error.strerror}")]
    return []


def _disk(parts: Parts) -> list[Notice]:
    try:
        free = shutil.disk_usage(parts.workspace).free
    except OSError:
        return []
    if free >= parts.upkeep.disk_floor:
        return []
    return [Notice(code="disk_low", text=f"{free // 1_000_000} MB are free on the disk of the workspace: free some, or move it")]


def _asked(parts: Parts, look: Callable[[Parts], Sequence[Notice]]) -> Sequence[Notice]:
    """What a look into the record finds."""
    try:
        return look(parts)
    except TailorbirdError as error:
        return (Notice(code="log_unreadable", text=f"the log cannot be read ({error.error_code})"),)


_LOOKS: tuple[Callable[[Parts], list[Notice]], ...] = (_workspace, _disk)
