"""The user's cache folder: where it is, and where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailorbird.settings import Settings
from tailorbird.system.files import can_be_made, user_cache


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


def test_a_home_that_may_not_be_looked_into_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs as another user than its image was made for, with HOME=/root."""
    home = tmp_path / "home"
    home.mkdir()
    looks, rights = Path.stat, os.access

    def stat(path: Path, **how: bool) -> os.stat_result:
        if path.is_relative_to(home) and path != home:
            raise PermissionError(13, "Permission denied", str(path))
        return looks(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home and rights(path, mode))
    assert not can_be_made(home / ".cache")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Settings(workspace=tmp_path).models == tmp_path / "models"
