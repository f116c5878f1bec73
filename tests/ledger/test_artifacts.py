"""Bytes and trees by digest: what comes back is what was put, or an error; on a local disk and behind fsspec."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tailorbird.crypto.canonical_json import canonical_json, digest_bytes
from tailorbird.domain.errors import Corrupt, InvalidInput, Unavailable
from tailorbird.ledger import blobs, open_artifacts

FILES = {"config.json": b"{}", "weights/a.safetensors": b"\x00" * 5000, "weights/empty": b"", ".hidden": b"h", "käse": "ü".encode()}


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path) -> str:
    """Where artifacts are kept: a folder, and a file system that is only reached through fsspec."""
    return str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid4().hex}/store"


@pytest.fixture
def store(place, tmp_path):
    return open_artifacts(place, tmp_path / "cache")


@pytest.fixture
def local(tmp_path):
    return open_artifacts(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "source"


def stored_file(tmp_path: Path, digest: str) -> Path:
    (file,) = (tmp_path / "store").rglob(digest.removeprefix("sha256:"))
    return file


def overwrite(file: Path, data: bytes) -> None:
    file.chmod(0o644)
    file.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestBytes:
    @pytest.mark.parametrize(
        "wrong",
        [
            "sha256:",
            "sha256:../../etc/passwd",
        ],
    )
    def test_what_is_no_digest_is_refused(self, store, wrong):
        for call in (store.get, store.exists, store.get_tree):
            with pytest.raises(InvalidInput):
                call(wrong)

    @pytest.mark.parametrize("place", ["memory"], indirect=True)
    def test_changed_bytes_behind_fsspec_are_refused(self, store, place):
        from fsspec.core import url_to_fs

        digest = store.put(b"the truth")
        files, root = url_to_fs(place)
        (path,) = files.find(root)
        files.pipe_file(path, b"the trush")
        with pytest.raises(Corrupt):
            store.get(digest)

    def test_a_truncated_artifact_is_refused_and_mended_by_putting_it_again(self, local, tmp_path):
        digest = local.put(b"the truth")
        overwrite(stored_file(tmp_path, digest), b"the")
        with pytest.raises(Corrupt):
            local.get(digest)
        assert local.put(b"the truth") == digest
        assert local.get(digest) == b"the truth"


class TestTrees:
    @pytest.mark.parametrize("odd", ["link", "link to a folder", "broken link", "pipe"])
    def test_what_is_no_plain_file_is_refused(self, local, folder, odd):
        make = {
            "link": lambda p: p.symlink_to(folder / "config.json"),
            "link to a folder": lambda p: p.symlink_to(folder / "weights"),
            "broken link": lambda p: p.symlink_to(folder / "nowhere"),
            "pipe": os.mkfifo,
        }
        make[odd](folder / "odd")
        with pytest.raises(InvalidInput) as refused:
            local.put_tree(folder)
        assert refused.value.error_code == "invalid_input"

    @pytest.mark.parametrize(
        "path",
        [
            "/etc/passwd",
            "../out",
            "a/../../out",
            "a\0b",
        ],
    )
    def test_a_tree_cannot_reach_out_of_its_folder(self, store, path):
        digest = store.put(canonical_json({path: store.put(b"x")}))
        with pytest.raises(Corrupt):
            store.get_tree(digest)


class TestChangedTrees:
    @pytest.mark.parametrize("how", ["changed", "added", "removed", "replaced by a link"])
    def test_a_touched_copy_is_refused_until_it_is_deleted(self, store, folder, tmp_path, how):
        digest = store.put_tree(folder)
        made = store.get_tree(digest)
        file = made / "config.json"
        file.unlink()
        if how == "changed":
            file.write_bytes(b"[]")
        elif how == "added":
            file.write_bytes(FILES["config.json"])
            (made / "more.py").touch()
        elif how == "replaced by a link":
            file.symlink_to(folder / "config.json")
        with pytest.raises(Corrupt) as refused:
            store.get_tree(digest)
        assert str(made) in refused.value.hint
        shutil.rmtree(made)
        assert contents(store.get_tree(digest)) == FILES


class TestTrouble:
    @pytest.mark.parametrize(
        ("number", "code"),
        [
            (errno.ENOSPC, "disk_full"),
            (errno.EACCES, "storage_forbidden"),
            (errno.EIO, "storage_unreachable"),
        ],
    )
    def test_what_the_disk_says_becomes_an_error_with_a_hint(self, store, folder, monkeypatch, tmp_path, number, code):
        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(blobs, "_copy", fail)
            for call in (lambda: store.put(b"x"), lambda: store.put_tree(folder)):
                with pytest.raises(Unavailable) as refused:
                    call()
                assert refused.value.error_code == code
                assert refused.value.hint
        assert not store.exists(digest_bytes(b"x"))
        assert store.get(store.put(b"x")) == b"x"


GETTER = """
import sys
from pathlib import Path
from tailorbird.ledger import open_artifacts
place, cache, digest = sys.argv[1:]
sys.stdin.readline()
print(sorted(p.name for p in open_artifacts(place, Path(cache)).get_tree(digest).iterdir()))
"""


def getters(tmp_path: Path, digest: str, count: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", GETTER, str(tmp_path / "store"), str(tmp_path / "cache"), digest]
    return [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]


@pytest.fixture
def many(tmp_path) -> Path:
    """A folder with enough files that two builders meet."""
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(200):
        (folder / f"{n}").write_bytes(bytes([n]) * 1000)
    return folder


def test_a_kill_while_a_tree_is_made_leaves_no_half_tree(local, many, tmp_path):
    digest = local.put_tree(many)
    (process,) = getters(tmp_path, digest, 1)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    nursery = tmp_path / "cache" / "unfinished"
    while process.poll() is None and not (nursery.is_dir() and any(nursery.iterdir())):
        pass
    process.kill()
    process.communicate()
    assert len(contents(local.get_tree(digest))) == 200
