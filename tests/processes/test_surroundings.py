"""Processes that ours start, whatever lies in the current folder, and wherever temporary files go."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tailorbird.processes import gateway
from tailorbird.processes.http_servers import LONGEST_SOCKET, listen_privately


def test_the_engine_takes_no_module_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had a random.py beside the objective got no engine."""
    (tmp_path / "random.py").write_text("raise SystemExit(7)")
    deps: Any = SimpleNamespace(workspace=tmp_path)
    command = [*gateway._own_engine(deps, "text")(tmp_path / "engine.sock"), "--help"]
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Unix socket" in done.stdout


def test_a_socket_is_made_elsewhere_where_the_path_of_temporary_files_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert gateway.socket_folder() == "/var/tmp"
    long = tmp_path / ("ß" * LONGEST_SOCKET)[: LONGEST_SOCKET // 2]
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with tempfile.TemporaryDirectory(prefix="tailorbird-", dir=gateway.socket_folder()) as folder:
        listen_privately(Path(folder) / "engine.sock").close()
