"""Workspaces to break, and the ending that each story must still come to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.faults import Desk, Ending, ending_of, write_job
from support.serving import House
from support.story_process import HASTE, TWINS


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
def finished(template: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A workspace in which the story has ended, and nothing happened to it."""
    desk = template.copy(tmp_path_factory.mktemp("finished") / "workspace")
    call = desk.adapt()
    assert call.run() == 0, call.said
    return desk


@pytest.fixture(scope="session")
def undisturbed(finished: Desk) -> Ending:
    """How the story ends when nothing happens to it."""
    return ending_of(finished)


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins for all that needs torch, and short leases, in this process."""
    for name, twin in TWINS.items():
        monkeypatch.setitem(sys.modules, name, twin)
    for place, name, value in HASTE:
        monkeypatch.setattr(place, name, value)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A record with releases and keys, and what serves from it (see ``support/processes.py``)."""
    folder = tmp_path / "house"
    folder.mkdir()
    made = House(folder)
    yield made
    made.ledger.close()
