"""The user's cache folder: where it is, and where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailorbird.settings import Settings
from tailorbird.system.files import user_cache


def test_it_is_named_by_an_absolute_path_else_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for named, expected in (("/var/cache", "/var/cache/tailorbird"), ("cache", "/home/ada/.cache/tailorbird"), ("", None)):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert user_cache() == Path(expected or "/home/ada/.cache/tailorbird")


def test_a_user_without_a_home_has_none_and_models_lie_in_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a number that no user has
    assert user_cache() is None
    assert Settings(workspace=tmp_path).models == tmp_path / "models"
