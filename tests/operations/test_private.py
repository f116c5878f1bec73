"""Whatever is written is for its owner alone, whatever the umask; an open workspace is refused, one of an earlier version closed once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird import wiring
from tailorbird.base_models.model_cache import make_once
from tailorbird.cli.main import main
from tailorbird.domain.errors import Forbidden
from tailorbird.ledger import open_artifacts
from tailorbird.settings import load_settings
from tailorbird.system.files import close_to_others, private_folder

ROW = b"a training row"


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """A user who lets everybody read and write whatever he makes."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    place = tmp_path / "some" / "where"
    command = [sys.executable, "-m", "tailorbird.cli.main", "init", "--tenant", "acme", "--workspace", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


def open_to_others(root: Path) -> list[str]:
    """What anybody but the owner has a right on."""
    return [str(path) for path in (root, *root.rglob("*")) if path.lstat().st_mode & 0o077 and not path.is_symlink()]


def _fill(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_workspace_and_what_is_put_into_it(workspace: Path, tmp_path: Path) -> None:
    deps = wiring.open_dependencies(load_settings(workspace, {}))
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "rows.jsonl").write_bytes(ROW)
    folder = deps.artifacts.get_tree(deps.artifacts.put_tree(source))
    assert mode(folder / "deep" / "rows.jsonl") == 0o400
    assert open_to_others(workspace) == []
    deps.ledger.close()


def test_parts_that_are_opened_alone(tmp_path: Path) -> None:
    """Nobody set the umask for them."""
    store = open_artifacts(str(tmp_path / "a" / "artifacts"), tmp_path / "b" / "cache")
    store.put(ROW)
    make_once(tmp_path / "c" / "models" / "small", _fill, lambda _: None)
    for folder in ("a", "c"):
        opened = [path for path in open_to_others(tmp_path / folder) if Path(path).is_dir()]
        assert opened == []
    assert {mode(path) for path in (tmp_path / "a").rglob("*") if path.is_file()} == {0o400}


def test_an_open_workspace_is_refused_as_an_open_key_is(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.chmod(0o750)
    with pytest.raises(Forbidden) as refused:
        wiring.open_dependencies(load_settings(workspace, {}))
    assert refused.value.error_code == "workspace_open"
    assert f"chmod -R go= {workspace}" in refused.value.hint
    with pytest.raises(SystemExit):
        main(["audit", "verify", "--workspace", str(workspace)])
    assert "error[workspace_open]" in capsys.readouterr().err
    workspace.chmod(0o700)
    wiring.open_dependencies(load_settings(workspace, {})).ledger.close()


def test_a_workspace_of_an_earlier_version_is_closed_once(workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "aa").mkdir(parents=True)
    (outside / "aa" / "blob").write_bytes(ROW)
    (outside / "aa" / "blob").chmod(0o444)
    stranger = tmp_path / "stranger"
    stranger.write_bytes(ROW)
    (workspace / "permissions").unlink()
    (workspace / "runs" / "one").mkdir(parents=True)
    (workspace / "runs" / "one" / "rows.jsonl").write_bytes(ROW)
    (workspace / "runs" / "link").symlink_to(stranger)
    for path in (workspace, *workspace.rglob("*")):
        if not path.is_symlink() and "keys" not in path.parts:
            path.chmod(0o755 if path.is_dir() else 0o644)
    key = workspace / "keys" / "acme" / "author.key"
    key.chmod(0o644)  # others may know it: it stays open, and so is refused when it is used
    settings = load_settings(workspace, {"TAILORBIRD_ARTIFACTS": str(outside)})
    wiring.open_dependencies(settings).ledger.close()
    assert open_to_others(workspace) == [str(key)]
    assert open_to_others(outside) == []
    assert mode(outside / "aa" / "blob") == 0o400
    assert mode(stranger) == 0o666
    outside.chmod(0o755)
    with pytest.raises(Forbidden):
        wiring.open_dependencies(settings)


def test_folders_that_stand_are_left_and_all_that_are_missing_are_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path), mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o755, 0o700, 0o700)
    (tmp_path / "a" / "file").touch(0o666)
    close_to_others(tmp_path)
    assert open_to_others(tmp_path) == []
