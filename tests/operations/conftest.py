from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "ledger"))  # the PostgreSQL server is shared with the ledger's tests

from ledger_postgresql import Server, running_server
from operations_kit import Open, open_workspace

from tailorbird.lifecycle import Parts


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Open]:
    """Opens workspaces; closes them in the end."""
    opened: list[Parts] = []
    numbers = count()

    def make(database: str = "", **upkeep: Any) -> Parts:
        opened.append(open_workspace(tmp_path / f"workspace-{next(numbers)}", database, **upkeep))
        return opened[-1]

    yield make
    for parts in opened:
        parts.ledger.close()


@pytest.fixture
def parts(another: Open) -> Parts:
    return another()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A real server, with databases that are still empty."""
    with running_server() as server:
        yield server
