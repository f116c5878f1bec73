"""``tailorbird evidence`` without a run: the newest, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called
from support.usecases import write_objective


def test_the_newest_run_is_meant_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_twins(monkeypatch)
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "work"))
    called("init", "--tenant", "acme")
    capsys.readouterr()
    assert called("evidence") == 1
    assert "error[run_missing]" in capsys.readouterr().err
    objective = str(write_objective(tmp_path / "job", ladder=["prompt"]))
    assert called("adapt", objective) == 0
    capsys.readouterr()
    assert called("evidence") == 0
    told = capsys.readouterr()
    assert "of desk, the newest" in told.err
    assert told.out.startswith("# ")
