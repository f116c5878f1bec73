"""What a process has decrypted goes when it ends, however it ends, and nobody else can enter."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailorbird.system import files
from tailorbird.system.files import clear_root, folders_of_all, is_in_memory, process_folder

STAYS = """
import sys, time
from pathlib import Path
from tailorbird.system.files import process_folder
place = process_folder(Path(sys.argv[1]))
(place / "tree").mkdir()
print(place, flush=True)
if sys.argv[2] == "stay":
    time.sleep(60)
"""


@contextmanager
def started(root: Path, how: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    command = [sys.executable, "-c", STAYS, str(root), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_the_folder_of_a_process_that_ended_is_gone(tmp_path: Path) -> None:
    with started(tmp_path, "end") as (process, place):
        assert process.wait(60) == 0
        assert not place.exists()


def test_that_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    with started(tmp_path, "stay") as (killed, left), started(tmp_path, "stay") as (_, kept):
        killed.kill()
        killed.wait(60)
        assert left.exists()
        process_folder.cache_clear()
        own = process_folder(tmp_path)
        assert own == process_folder(tmp_path)
        assert (left.exists(), kept.exists(), own.exists()) == (False, True, True)
        assert folders_of_all(tmp_path, "tree") == [kept / "tree"]


def test_it_lies_in_memory_and_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    monkeypatch.setattr(files, "_IN_MEMORY", memory)
    place = clear_root(tmp_path / "workspace")
    assert is_in_memory(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert clear_root(tmp_path / "workspace") == place != clear_root(tmp_path / "another")
    place.chmod(0o755)
    beside = clear_root(tmp_path / "workspace")
    assert beside == tmp_path / "workspace" / "cache" / "clear", "what others may enter is not used"
    place.chmod(0o700)
    monkeypatch.setattr(files, "LEAST", 1 << 60)
    assert clear_root(tmp_path / "workspace") == beside
    assert not is_in_memory(beside)
    assert clear_root(tmp_path / "workspace", tmp_path / "chosen") == tmp_path / "chosen"
