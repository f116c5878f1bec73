"""Workspaces to break, and the ending that each story must still come to."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_kit import Desk, Ending, ending_of, write_job


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A workspace in which nothing has happened yet, and the job that all stories are about."""
    folder = tmp_path_factory.mktemp("template")
    return Desk.new(folder / "workspace", write_job(folder / "job"))


@pytest.fixture
def desk(template: Desk, tmp_path: Path) -> Desk:
    """A workspace of this test's own."""
    return template.copy(tmp_path / "workspace")


@pytest.fixture(scope="session")
def undisturbed(template: Desk, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    """How the story ends when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    desk = template.copy(folder / "workspace")
    call = desk.adapt(moments=folder / "moments")
    assert call.run() == 0, call.said
    return ending_of(desk)
