"""One furnished workspace for all tests that look, and copies of it for those that change something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.console import Reader, copied, furnish, open_workspace
from tailorbird.usecases import Dependencies


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console") / "furnished"
    furnish(folder)
    return folder


@pytest.fixture(scope="session")
def house(furnished: Path) -> Iterator[Dependencies]:
    """The furnished workspace itself; nobody changes what it holds."""
    deps = open_workspace(furnished / "workspace")
    yield deps
    deps.ledger.close()


@pytest.fixture(scope="session")
def viewer(house: Dependencies) -> Reader:
    reader = Reader(house)
    assert reader.log_in("viewer").status_code == 303
    return reader


@pytest.fixture
def deps(furnished: Path, tmp_path: Path) -> Iterator[Dependencies]:
    """A copy of the furnished workspace."""
    opened = copied(furnished, tmp_path)
    yield opened
    opened.ledger.close()
