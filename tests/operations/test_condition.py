"""What an operator is told of a workspace: no room, no right to write, no record, checkpoints that stay."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from operations_kit import Open, with_upkeep

from tailorbird.integrations.memory import MemoryNotifier
from tailorbird.lifecycle.upkeep.condition import examine


def codes(parts: object) -> list[str]:
    return [notice.code for notice in examine(parts).notices]  # type: ignore[arg-type]


def test_a_workspace_in_order_has_nothing_to_say(another: Open) -> None:
    parts = another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()})
    assert examine(parts).writable
    assert codes(parts) == []
    assert codes(with_upkeep(parts, checkpoint_hooks={})) == ["checkpoints_stay"]
    assert not list(parts.workspace.glob(".probe-*"))


def test_a_disk_that_is_almost_full(another: Open) -> None:
    parts = another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()}, disk_floor=1 << 62)
    assert codes(parts) == ["disk_low"]
    assert examine(parts).writable


def test_a_workspace_that_may_only_be_read(another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = another(checkpoint_hooks={"https://witness.example/": MemoryNotifier()})

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    (notice,) = examine(parts).notices
    assert (notice.code, "Read-only file system" in notice.text) == ("workspace_unwritable", True)
    assert str(parts.workspace) not in notice.text


def test_a_record_that_is_gone(another: Open, tmp_path: Path) -> None:
    parts = another(record_file=tmp_path / "no-such.db")
    assert not examine(parts).writable
    assert codes(parts)[0] == "record_missing"
