"""Workspaces as the command line opens them, with their ledger in a file: what is backed up, restored and looked into."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support.operations import Open, open_workspace
from tailorbird.usecases import Dependencies


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Open]:
    """Opens workspaces; closes them in the end."""
    opened: list[Dependencies] = []
    numbers = count()

    def make(database: str = "", **upkeep: Any) -> Dependencies:
        opened.append(open_workspace(tmp_path / f"workspace-{next(numbers)}", database, **upkeep))
        return opened[-1]

    yield make
    for deps in opened:
        deps.ledger.close()


@pytest.fixture
def deps(another: Open) -> Dependencies:
    return another()
