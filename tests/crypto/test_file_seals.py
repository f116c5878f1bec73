"""A seal holds for the same names and bytes alone, and with the key that made it; a file is known by its digest, read once or often."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tailorbird.crypto.sealed_stream import FileSeals, FolderSeals
from tailorbird.system.files import digest_file

SEALS = FolderSeals()


def flipped(folder: Path) -> None:
    path = folder / "large"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit": flipped,
    "a byte more": lambda folder: (folder / "large").write_bytes((folder / "large").read_bytes() + b"\0"),
    "a byte less": lambda folder: (folder / "large").write_bytes((folder / "large").read_bytes()[:-1]),
    "a file more": lambda folder: (folder / "more").touch(),
    "a file less": lambda folder: (folder / "below" / "small").unlink(),
    "another name": lambda folder: (folder / "below" / "small").rename(folder / "below" / "smalk"),
    "another place": lambda folder: (folder / "below" / "small").rename(folder / "small"),
    "bytes of one in another": lambda folder: ((folder / "a").write_bytes(b"12"), (folder / "b").write_bytes(b"3")),
    "no folder": lambda folder: folder.rename(folder.with_name("elsewhere")),
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


def test_it_holds_for_what_did_not_change_and_for_a_copy(folder: Path, tmp_path: Path) -> None:
    seal = SEALS.seal(folder)
    assert SEALS.holds(folder, seal)
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*")):
        to = copy / path.relative_to(folder)
        if path.is_file():
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    assert SEALS.holds(copy, seal)


@pytest.mark.parametrize("change", CHANGES)
def test_it_does_not_hold_where_anything_changed(change: str, folder: Path) -> None:
    seal = SEALS.seal(folder)
    CHANGES[change](folder)
    assert not SEALS.holds(folder, seal)


def test_another_process_can_neither_make_nor_check_one(folder: Path) -> None:
    seal = SEALS.seal(folder)
    assert not FolderSeals().holds(folder, seal)
    assert SEALS.seal(folder) != seal, "each has its own nonce"
    assert not SEALS.holds(folder, bytes(len(seal)))
    assert not SEALS.holds(folder, b"")


def test_what_is_no_folder_has_no_seal(tmp_path: Path) -> None:
    assert SEALS.seal(tmp_path / "nothing") == b""
    assert SEALS.holds(tmp_path / "nothing", b"")


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 3])
def test_a_file_is_known_by_its_digest_the_first_time_and_later(size: int, tmp_path: Path) -> None:
    seals, path = FileSeals(), tmp_path / "weights"
    path.write_bytes(os.urandom(size))
    digest, other = digest_file(path), "sha256:" + "0" * 64
    for _ in range(3):
        assert seals.is_named(path, digest)
        assert not seals.is_named(path, other)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    assert seals.is_named(tmp_path / "copy", digest)


@pytest.mark.parametrize("seen", [True, False])
def test_other_bytes_do_not_have_its_digest(seen: bool, folder: Path) -> None:
    seals, path = FileSeals(), folder / "large"
    digest, before = digest_file(path), path.read_bytes()
    assert not seen or seals.is_named(path, digest)
    for damaged in (before[:-1], before + b"\0", b"", bytes([before[0] ^ 1]) + before[1:]):
        path.write_bytes(damaged)
        assert not seals.is_named(path, digest)
    path.write_bytes(before)
    assert seals.is_named(path, digest)


def test_so_many_are_remembered_and_no_more(tmp_path: Path) -> None:
    seals, path = FileSeals(most=2), tmp_path / "weights"
    for number in range(5):
        path.write_bytes(bytes([number]))
        assert seals.is_named(path, digest_file(path))
    assert len(seals._seals) == 2
    path.write_bytes(b"\0")
    assert seals.is_named(path, digest_file(path))
