"""What an operator is told of a workspace: no room, no right to write, no record, checkpoints that stay."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from support.doubles import MemoryNotifier
from support.operations import Open, with_upkeep
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import FIRST_PEOPLE, key_path
from tailorbird.usecases.maintenance.health import examine


def hand_out(deps: Dependencies) -> Dependencies:
    """The workspace after everybody took their key."""
    for name in FIRST_PEOPLE:
        key_path(deps, "acme", name).unlink()
    return deps


def codes(deps: object) -> list[str]:
    return [notice.code for notice in examine(deps).notices]  # type: ignore[arg-type]


def test_a_workspace_in_order_has_nothing_to_say(another: Open) -> None:
    deps = hand_out(another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()}))
    assert examine(deps).writable
    assert codes(deps) == []
    assert codes(with_upkeep(deps, checkpoint_hooks={})) == ["checkpoints_stay"]
    assert not list(deps.workspace.glob(".probe-*"))


def test_a_workspace_that_may_only_be_read(another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    deps = hand_out(another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()}))

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    (notice,) = examine(deps).notices
    assert (notice.code, "Read-only file system" in notice.text) == ("workspace_unwritable", True)
    assert str(deps.workspace) not in notice.text


def test_a_disk_that_is_full(another: Open) -> None:
    """An empty file fits on it, and the lock of the record can be taken: only what is written shows it."""
    deps = hand_out(another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()}))
    record = deps.workspace / "tailorbird.db"
    record.touch()
    deps = with_upkeep(deps, record_file=record)
    assert examine(deps).writable
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        found = examine(deps)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not found.writable
    assert [notice.code for notice in found.notices] == ["workspace_unwritable"]
    assert not list(deps.workspace.glob(".probe-*"))


def test_a_log_that_cannot_be_written_is_told(another: Open) -> None:
    deps = hand_out(another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()}))
    key = deps.workspace / "keys" / "log.key"
    away = key.rename(key.with_suffix(".away"))
    assert (examine(deps).writable, codes(deps)) == (False, ["log_unwritable"])
    away.rename(key)
    assert (examine(deps).writable, codes(deps)) == (True, [])
