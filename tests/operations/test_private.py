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
from tailorbird.system.files import private_folder

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
    record = workspace / "tailorbird.db"
    record.chmod(0o644)
    with pytest.raises(Forbidden):
        wiring.open_dependencies(load_settings(workspace, {}))
    record.chmod(0o600)
    wiring.open_dependencies(load_settings(workspace, {})).ledger.close()


def test_folders_that_stand_are_left_and_all_that_are_missing_are_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path), mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o755, 0o700, 0o700)
