"""Fixtures of the preflight tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.preflight import ChangeBase


@pytest.fixture
def change_base(tiny_base: Path, tmp_path: Path) -> ChangeBase:
    """Copies the tiny model, with another template or other JSON files."""

    def change(template: str | None = None, **files: dict[str, object]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_base, folder)
        if template is not None:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        for name, changes in files.items():
            path = folder / f"{name}.json"
            before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            path.write_text(json.dumps(before | changes), encoding="utf-8")
        return folder

    return change
