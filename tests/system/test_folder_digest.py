"""The digest of a folder is that of its names and bytes alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clocks import replace_clock
from tailorbird.system import files
from tailorbird.system.files import digest_folder


def flipped(folder: Path) -> None:
    path = folder / "large"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit": flipped,
    "another name": lambda folder: (folder / "below" / "small").rename(folder / "below" / "smalk"),
    "bytes of one in another": lambda folder: ((folder / "a").write_bytes(b"12"), (folder / "b").write_bytes(b"3")),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "adapter"
    (found / "below").mkdir(parents=True)
    (found / "large").write_bytes(os.urandom(3 * 2**20 + 17))
    (found / "below" / "small").write_bytes(b"{}")
    (found / "a").write_bytes(b"1")
    (found / "b").write_bytes(b"23")
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_gives_another(change: str, folder: Path) -> None:
    before = digest_folder(folder)
    CHANGES[change](folder)
    assert digest_folder(folder) != before


def test_an_old_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is seen also where somebody set the time of the last change back."""
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    replace_clock(monkeypatch, files, time_ns=lambda: 2 * file.stat().st_ctime_ns)
    monkeypatch.setattr(files, "_known", known := {})
    first, times = files.known_digest(file), file.stat()
    assert files.known_digest(file) == first
    time.sleep(0.02)  # times of files are told in ticks
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files.known_digest(file) != first
    assert len(known) == 2
