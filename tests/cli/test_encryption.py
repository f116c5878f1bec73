"""``tailorbird encryption``, as it is typed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from support.cli import tailorbird


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    return tmp_path


def test_a_workspace_is_switched_on_shown_and_its_key_rotated(folder: Path) -> None:
    before = json.loads(tailorbird(folder, "encryption", "status", "--json").stdout)
    assert (before["encrypts"], before["tenants"]) == (False, [{"tenant": "acme", "has_key": False}])
    enabled = tailorbird(folder, "encryption", "enable")
    assert enabled.returncode == 0, enabled.stderr
    key = folder / ".tailorbird.key"
    assert str(key) in enabled.stderr
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    after = json.loads(tailorbird(folder, "encryption", "status", "--json").stdout)
    assert (after["encrypts"], after["tenants"]) == (True, [{"tenant": "acme", "has_key": True}])
    assert "encrypted" in tailorbird(folder, "encryption", "status").stdout
    rotated = tailorbird(folder, "encryption", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    assert len(key.read_text().split()) == 2
    assert tailorbird(folder, "encryption", "enable").returncode == 0, "again is no fault"
    again = tailorbird(folder, "encryption", "enable", "--with", "env:A_KEY")
    assert "error[conflict]" in again.stderr


def test_a_key_that_is_missing_open_or_another_is_told(folder: Path) -> None:
    assert tailorbird(folder, "encryption", "enable").returncode == 0
    key = folder / ".tailorbird.key"
    held = key.read_text()
    key.chmod(0o444)
    assert "error[forbidden]" in tailorbird(folder, "encryption", "rotate").stderr
    key.unlink()
    missing = tailorbird(folder, "encryption", "rotate")
    assert "error[workspace_key_missing]" in missing.stderr
    assert "hint: put it back" in missing.stderr
    assert tailorbird(folder, "tenant", "list").returncode == 0, "what is not encrypted needs no key"
    key.write_text("A" * 43 + "=\n")
    key.chmod(0o400)
    wrong = tailorbird(folder, "encryption", "enable")
    assert "error[forbidden]" in wrong.stderr
    key.unlink()
    key.write_text(held)
    key.chmod(0o400)
    assert tailorbird(folder, "encryption", "enable").returncode == 0


@pytest.mark.parametrize("wrong", ["yes", "env:", "file-at:x"])
def test_a_setting_that_names_no_key_is_refused(folder: Path, wrong: str) -> None:
    refused = tailorbird(folder, "encryption", "enable", "--with", wrong)
    assert refused.returncode == 1
    assert "error[settings_invalid]" in refused.stderr
    assert "encryption" not in (folder / ".tailorbird" / "settings.yaml").read_text()
