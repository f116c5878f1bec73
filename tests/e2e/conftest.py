"""A desk per module, with the base model shared by all."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.e2e import Desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, base_model_folder: Path) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk") / "workspace", base_model_folder.parent)
