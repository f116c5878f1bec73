"""Writes in a folder are told by the system, where it can."""

from __future__ import annotations

import select
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird.serving.alias_record import FolderWatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[FolderWatch]:
    made = FolderWatch(tmp_path)
    yield made
    made.close()


def told(watch: FolderWatch, seconds: float = 5.0) -> bool:
    return bool(select.select([watch.descriptor], [], [], seconds)[0])


def test_every_commit_to_a_database_is_told(watch: FolderWatch, tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "record.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (a)")
    for number in range(3):
        watch.drain()
        assert not told(watch, 0.05)
        database.execute("INSERT INTO t VALUES (?)", (number,))
        database.commit()
        assert told(watch)
    database.close()


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        FolderWatch(tmp_path / "none")


def test_closing_twice_is_closing_once(watch: FolderWatch) -> None:
    watch.close()
    watch.close()
