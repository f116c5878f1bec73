"""Every template ends in a release: written into an empty folder, adapted as its own comments say."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.e2e import Desk
from tailorbird.objective import TEMPLATES, write_template


def released(desk: Desk, folder: Path, name: str) -> None:
    objective = write_template(name, folder, "acme")[-1]
    ended = desk.json("adapt", str(objective))
    assert ended["release"] is not None, ended
    assert desk.json("release", "show", ended["release"])["state"] == "gated"


@pytest.mark.jobs
@pytest.mark.usefixtures("encoder_folder")
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_ends_in_a_release(desk: Desk, tmp_path: Path, name: str) -> None:
    released(desk, tmp_path / "job", name)
