"""``tailorbird release verify`` as somebody types it: files that changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called
from support.usecases import write_objective
from tailorbird.cli.session import open_session
from tailorbird.domain.release import Release
from tailorbird.usecases.releases.release_queries import list_releases


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A release of a prompt, in a workspace of its own."""
    use_twins(monkeypatch)
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "work"))
    called("init", "--tenant", "acme")
    write_objective(tmp_path / "job", ladder=["prompt"], business={"goal": "Route messages.", "owner": "support", "risk": "minimal"})
    monkeypatch.chdir(tmp_path / "job")
    called("adapt", "objective.yaml")
    return open_session().ask(list_releases, limit=2).releases[0]


def test_changed_files_are_found(made: Release, capfd: pytest.CaptureFixture[str]) -> None:
    assert called("release", "verify", made.digest) == 0
    deps = open_session().deps
    changed = next(path for path in deps.artifacts.get_tree(made.content.base_model).iterdir() if path.stat().st_size)
    changed.chmod(0o600)
    changed.write_bytes(changed.read_bytes() + b"x")
    assert called("release", "verify", made.digest) == 1
    assert "error[" in capfd.readouterr().err
