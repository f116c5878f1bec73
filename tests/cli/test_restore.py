"""Where ``restore`` makes a workspace: beside its place, or inside an empty folder, which may be a disk of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.cli import maintenance as backup
from tailorbird.domain.errors import Conflict


def fill(workspace: Path) -> None:
    with backup._new(workspace) as folder:
        (folder / "settings.yaml").write_text("tenant: acme\n")
        (folder / "artifacts").mkdir()


@pytest.mark.parametrize("kind", ["new", "empty", "link", "disk"])
def test_a_workspace_is_made_in_a_new_or_an_empty_folder(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty volume of a container could not be restored into: no folder takes the place of one where a disk is mounted."""
    workspace = tmp_path / "work"
    if kind == "link":
        (tmp_path / "far").mkdir()
        workspace.symlink_to(tmp_path / "far")
    elif kind != "new":
        workspace.mkdir(mode=0o755)
    if kind == "disk":
        (workspace / "lost+found").mkdir()
        renamed = Path.rename

        def rename(path: Path, target: Path) -> Path:
            if target == workspace:
                raise OSError(16, "Device or resource busy", str(target))
            return renamed(path, target)

        monkeypatch.setattr(Path, "rename", rename)
    fill(workspace)
    names = {path.name for path in workspace.iterdir()} - {"lost+found"}
    assert names == {"settings.yaml", "artifacts"}
    assert workspace.stat().st_mode & 0o077 == 0
    assert workspace.is_symlink() == (kind == "link")
    with pytest.raises(Conflict):
        fill(workspace)


def test_nothing_is_left_where_it_fails(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(ZeroDivisionError), backup._new(tmp_path / "work"):
        raise ZeroDivisionError
    assert not list((tmp_path / "work").iterdir())
