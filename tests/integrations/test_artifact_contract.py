"""What every artifact store must do: the same questions to a folder and to a real S3 server."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from support.s3 import running_s3
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.sealed_stream import new_data_key
from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.ledger import open_artifacts
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.ledger.blobs import RemoteBlobs


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket on a real S3 server, found and opened as an installation does: by the environment."""
    with running_s3() as url, pytest.MonkeyPatch.context() as environment:
        for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}.items():
            environment.setenv(f"AWS_{name}", value)
        yield "s3://started"


@pytest.fixture(params=["fsspec", "s3", "encrypted", "encrypted on s3", "of a tenant"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """The store in a folder and on S3: in the clear, encrypted, and encrypted before what lies in the clear."""
    url = f"{request.getfixturevalue('s3')}/{uuid4().hex}" if "s3" in request.param else str(tmp_path / "artifacts")
    opened = open_artifacts(url, tmp_path / "cache")
    if "encrypted" in request.param:
        return opened.sealed_by(new_data_key(), tmp_path / "clear")
    if request.param == "of a tenant":
        own = opened.sealed_by(new_data_key(), tmp_path / "clear")
        return opened.of_tenant(lambda: own)
    return opened


def test_bytes_are_named_by_their_digest(store: ArtifactStore) -> None:
    digest = store.put(b"some bytes")
    assert digest == digest_bytes(b"some bytes") == store.put(b"some bytes")
    assert store.get(digest) == b"some bytes"
    assert store.exists(digest)
    assert store.get(store.put(b"")) == b""


def test_bytes_are_written_to_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    for data in (b"", b"some bytes", bytes(3_000_000)):
        target = tmp_path / f"{len(data)}"
        store.save(store.put(data), target)
        assert target.read_bytes() == data
    with pytest.raises(NotFound):
        store.save(digest_bytes(b"never put"), tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_what_is_not_there_is_not_found(store: ArtifactStore) -> None:
    absent = digest_bytes(b"never put")
    assert not store.exists(absent)
    for read in (store.get, store.get_tree, store.tree):
        with pytest.raises(NotFound):
            read(absent)


def test_a_tree_comes_back_file_by_file(store: ArtifactStore, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "deep" / "weights").write_bytes(bytes(range(256)))
    tree = store.put_tree(folder)
    assert store.tree(tree) == {"config.json": digest_bytes(b"{}"), "deep/weights": digest_bytes(bytes(range(256)))}
    for _ in range(2):
        read = store.get_tree(tree)
        files = {path.relative_to(read).as_posix(): path.read_bytes() for path in read.rglob("*") if path.is_file()}
        assert files == {"config.json": b"{}", "deep/weights": bytes(range(256))}


def test_what_is_destroyed_is_gone_and_can_be_put_again(store: ArtifactStore, tmp_path: Path) -> None:
    kept, gone = store.put(b"kept"), store.put(b"somebody's words")
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "rows.csv").write_bytes(b"text,label")
    tree = store.put_tree(folder)
    store.get_tree(tree)
    assert store.destroy(gone)
    assert store.destroy(tree)
    assert not store.destroy(gone)
    assert [store.exists(digest) for digest in (kept, gone, tree)] == [True, False, False]
    with pytest.raises(NotFound):
        store.get(gone)
    assert store.put(b"somebody's words") == gone
    assert store.get(gone) == b"somebody's words"


def test_copies_in_other_trees_go_with_what_is_destroyed(store: ArtifactStore, tmp_path: Path) -> None:
    """A tree that was read has the very bytes: they go whoever asked for it, and before or after the bytes themselves went."""
    trees = []
    for name, content in (("one", b"somebody's words"), ("other", b"somebody's words"), ("third", b"nobody's words!!")):
        folder = tmp_path / name
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "rows.csv").write_bytes(content)
        (folder / name).write_bytes(b"")
        trees.append(store.get_tree(store.put_tree(folder)))
    gone = digest_bytes(b"somebody's words")
    assert store.destroy(gone)
    assert [list(tree.rglob("rows.csv")) != [] for tree in trees] == [False, False, True]
    for tree in trees[:2]:
        (tree / "deep").mkdir(parents=True, exist_ok=True)
        (tree / "deep" / "rows.csv").write_bytes(b"somebody's words")
    assert not store.destroy(gone), "as whoever was killed in between does again"
    assert [list(tree.rglob("rows.csv")) != [] for tree in trees] == [False, False, True]


def test_what_others_hold_stays_where_it_lies_once_for_all(store: ArtifactStore, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "rows.csv").write_bytes(b"text,label")
    tree = store.get_tree(store.put_tree(tmp_path / "inputs"))
    digest = digest_bytes(b"text,label")
    encrypted = request.node.callspec.id == "of a tenant"
    assert store.destroy(digest, shared=True) == encrypted
    assert store.exists(digest) != encrypted, "what is encrypted is nobody else's"
    assert not list(tree.rglob("rows.csv"))


def test_everything_stored_is_listed(store: ArtifactStore, tmp_path: Path) -> None:
    assert set(store.digests()) == set()
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    expected = {store.put(b"some bytes"), store.put_tree(folder), digest_bytes(b"{}")}
    store.get_tree(store.put_tree(folder))
    assert set(store.digests()) == expected


def test_bytes_are_copied_to_another_store_once(store: ArtifactStore, tmp_path: Path) -> None:
    other = open_artifacts(str(tmp_path / "b"), tmp_path / "c")
    digest = store.put(b"some bytes")
    assert store.copy(digest, other)
    assert not store.copy(digest, other)
    assert other.get(digest) == b"some bytes"
    with pytest.raises(NotFound):
        store.copy(digest_bytes(b"never put"), other)


@pytest.mark.parametrize("remote", [False, True], ids=["in a folder", "behind fsspec"])
def test_what_a_killed_process_had_half_stored_goes_with_what_is_destroyed(tmp_path: Path, remote: bool) -> None:
    """It may hold a person's words, and its digest is not known."""
    store = open_artifacts(f"memory://{uuid4().hex}" if remote else str(tmp_path / "artifacts"), tmp_path / "cache")
    digest = store.put(b"a person's words")
    half = (tmp_path / ("cache" if remote else "artifacts")) / "unfinished" / "left"
    under_way = half.with_name("under way")
    half.write_bytes(b"a person's")
    with under_way.open("xb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.destroy(digest)
        assert not half.exists()
        assert under_way.exists()


def test_what_another_process_stored_is_seen(s3: str, tmp_path: Path) -> None:
    """fsspec remembers listings; a store must not."""
    url = f"{s3}/{uuid4().hex}"
    one = open_artifacts(url, tmp_path / "cache")
    first = one.put(b"first")
    assert set(one.digests()) == {first}
    files = RemoteBlobs(fsspec.filesystem("s3", skip_instance_cache=True), url.removeprefix("s3://"), tmp_path)
    other = ArtifactStore(files, tmp_path / "cache")
    second = other.put(b"second")
    assert set(one.digests()) == {first, second}
    assert one.exists(second)
    assert one.get(second) == b"second"


def test_changed_bytes_are_not_copied(tmp_path: Path) -> None:
    store, other = (open_artifacts(str(tmp_path / name), tmp_path / "cache") for name in ("a", "b"))
    digest = store.put(b"some bytes")
    (file,) = (path for path in (tmp_path / "a").rglob("*") if path.is_file())
    file.chmod(0o600)
    file.write_bytes(b"other bytes")
    with pytest.raises(Corrupt):
        store.copy(digest, other)
    assert not other.exists(digest)
