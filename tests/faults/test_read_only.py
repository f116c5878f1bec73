"""A workspace, or a part of it, that may only be read: the command says so at once, and goes on when it may write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.faults import Desk, Ending, ending_of

VERBS = {
    "adapt": ["adapt", "OBJECTIVE"],
    "submit": ["adapt", "OBJECTIVE", "--detach"],
    "key": ["key", "create", "robot", "--as", "admin"],
    "checkpoint": ["audit", "checkpoint", "--as", "admin"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_workspace_that_may_only_be_read(desk: Desk, tmp_path: Path, verb: str) -> None:
    arguments = [str(desk.objective) if word == "OBJECTIVE" else word for word in VERBS[verb]]
    call = replace(desk.call(*arguments), read_only=desk.workspace, log=tmp_path / "log")
    assert call.run() == 1, call.said
    assert "hint: " in call.said
    assert "Traceback" not in call.said
    assert any(code in call.said for code in ("error[database_", "error[storage_forbidden]", "error[system]")), call.said


def test_a_worker_over_a_workspace_that_may_only_be_read(desk: Desk, tmp_path: Path, undisturbed: Ending) -> None:
    """It says so for every run, and leaves the run to whoever may write."""
    desk.submit()
    call = replace(desk.worker(), read_only=desk.workspace, log=tmp_path / "log")
    assert call.run() == 0, call.said
    assert "error[database_read_only]" in call.said
    assert desk.worker().run() == 0
    assert ending_of(desk) == undisturbed


@pytest.mark.parametrize(
    ("part", "code"), [("artifacts", "storage_forbidden"), ("cache", "storage_forbidden"), ("runs", "storage_forbidden")]
)
def test_a_part_that_may_only_be_read(desk: Desk, undisturbed: Ending, part: str, code: str) -> None:
    call = replace(desk.adapt(), read_only=desk.workspace / part)
    assert call.run() == 1, call.said
    assert f"error[{code}]" in call.said
    assert "Traceback" not in call.said
    assert desk.adapt().run() == 0
    assert ending_of(desk).release == undisturbed.release
