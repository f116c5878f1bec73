"""What lies in an encrypted store tells nothing, and nothing of it can be changed, cut off, exchanged or taken for another tenant's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.sealed_stream import CHUNK, HEADER, TAG, new_data_key
from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.ledger import open_artifacts
from tailorbird.ledger.artifacts import ArtifactStore

ACME, GLOBEX = new_data_key(), new_data_key()
WORDS = b"somebody's words, in the clear"


@pytest.fixture
def place(tmp_path: Path) -> ArtifactStore:
    return open_artifacts(str(tmp_path / "artifacts"), tmp_path / "cache")


@pytest.fixture
def store(place: ArtifactStore, tmp_path: Path) -> ArtifactStore:
    return place.sealed_by(ACME, tmp_path / "clear")


def files_of(tmp_path: Path) -> list[Path]:
    return sorted((path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def overwrite(file: Path, data: bytes) -> None:
    file.chmod(0o600)
    file.write_bytes(data)


def test_neither_texts_nor_digests_lie_there(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(WORDS)
    (file,) = files_of(tmp_path)
    assert WORDS not in file.read_bytes()
    assert digest.removeprefix("sha256:") not in str(file)
    assert file.stat().st_mode & 0o777 == 0o400
    assert list(store.digests()) == [digest]


def test_a_guess_cannot_be_looked_up_in_another_tenants_part(place: ArtifactStore, store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(WORDS)
    other = place.sealed_by(GLOBEX, tmp_path / "theirs")
    assert not other.exists(digest)
    assert not place.exists(digest)
    assert set(place.digests()) == set()
    with pytest.raises(NotFound):
        other.get(digest)
    assert other.put(WORDS) == digest
    assert store.destroy(digest)
    assert other.get(digest) == WORDS, "each tenant has its own"


def test_a_tree_is_read_in_the_clear_where_it_is_asked_for_and_nowhere_else(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "rows.csv").write_bytes(WORDS)
    read = store.get_tree(store.put_tree(tmp_path / "source"))
    assert (read / "rows.csv").read_bytes() == WORDS
    assert read.is_relative_to(tmp_path / "clear")
    shutil.rmtree(tmp_path / "source")
    found = [path for path in tmp_path.rglob("*") if path.is_file() and WORDS in path.read_bytes()]
    assert found == [read / "rows.csv"]


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def swapped(data: bytes) -> bytes:
    body = data[HEADER:]
    return data[:HEADER] + body[CHUNK + TAG : 2 * (CHUNK + TAG)] + body[: CHUNK + TAG] + body[2 * (CHUNK + TAG) :]


@pytest.mark.parametrize(
    "damage",
    [flipped, swapped, lambda data: data[: HEADER + CHUNK + TAG], lambda data: data[:-1], lambda data: data[:40], lambda _: b""],
    ids=["flipped", "chunks exchanged", "cut at a chunk", "cut by a byte", "cut in the header", "emptied"],
)
def test_a_damaged_file_is_refused_and_mended_by_storing_it_again(
    store: ArtifactStore, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    data = bytes(2 * CHUNK) + WORDS
    digest = store.put(data)
    (file,) = files_of(tmp_path)
    overwrite(file, damage(file.read_bytes()))
    with pytest.raises(Corrupt):
        store.get(digest)
    if damage not in (flipped, swapped):
        assert store.put(data) == digest
        assert store.get(digest) == data


def test_files_that_were_exchanged_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    one, other = store.put(b"a text"), store.put(b"another text")
    first, second = files_of(tmp_path)
    held = first.read_bytes()
    overwrite(first, second.read_bytes())
    overwrite(second, held)
    for digest in (one, other):
        with pytest.raises(Corrupt) as refused:
            store.get(digest)
        assert refused.value.error_code == "corrupt"
    with pytest.raises(Corrupt):
        list(store.digests())


def test_a_file_of_another_tenant_is_refused(place: ArtifactStore, store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(WORDS)
    place.sealed_by(GLOBEX, tmp_path / "theirs").put(WORDS)
    mine, theirs = (next((tmp_path / "artifacts" / "sealed" / key.scope).glob("*/*/*")) for key in (ACME, GLOBEX))
    overwrite(mine, theirs.read_bytes())
    with pytest.raises(Corrupt) as refused:
        store.get(digest)
    assert refused.value.error_code == "corrupt"


def test_copies_that_other_processes_decrypted_go_with_what_is_destroyed(place: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "rows.csv").write_bytes(WORDS)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    engine = place.sealed_by(ACME, theirs)
    store = place.sealed_by(ACME, ours, lambda: [ours, theirs])
    tree = store.put_tree(tmp_path / "source")
    read = [store.get_tree(tree), engine.get_tree(tree)]
    assert all((folder / "rows.csv").is_file() for folder in read)
    assert store.destroy(digest_bytes(WORDS))
    assert not any((folder / "rows.csv").exists() for folder in read)
