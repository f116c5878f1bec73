from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import House
from support.workspace_ledger import FAST, close_workspace


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, ledger_kind=FAST)
    yield made
    close_workspace(tmp_path, made.ledger)
