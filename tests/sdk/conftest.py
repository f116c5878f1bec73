from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control import furnish_office, open_office
from tailorbird.usecases import Dependencies


@pytest.fixture(scope="session")
def furnished_office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is made once and copied for each test."""
    folder = tmp_path_factory.mktemp("office")
    furnish_office(folder)
    return folder


@pytest.fixture
def deps(tmp_path: Path, furnished_office: Path) -> Iterator[Dependencies]:
    made = open_office(shutil.copytree(furnished_office, tmp_path / "office"))
    yield made
    made.ledger.close()
