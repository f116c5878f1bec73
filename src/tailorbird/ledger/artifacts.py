"""Artifact store: bytes and folders by digest, checked on every read."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import TypeAdapter, ValidationError

from tailorbird.crypto.canonical_json import canonical_json, digest_bytes, short
from tailorbird.crypto.sealed_stream import reader_of
from tailorbird.domain.errors import Conflict, Corrupt, Exhausted, InvalidInput, NotFound, Unavailable
from tailorbird.domain.identity import DataKey, Storage
from tailorbird.domain.value import Digest
from tailorbird.ledger.blobs import Blobs, LocalBlobs, RemoteBlobs, SealedBlobs, storage_errors, unfinished
from tailorbird.ledger.unit_of_work import Ledger, UnitOfWork
from tailorbird.system.files import OWNER_READS, copy_hashed, copy_rest, digest_file, known_digest, private_folder, remove_folder

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TREE = re.compile(r"[0-9a-f]{64}")
_MANIFEST = TypeAdapter(dict[str, Digest])


class _ArtifactPlace(NamedTuple):
    """Where artifacts lie: their bytes, the folder of trees that were asked for, and further such folders, which an erasure clears too."""

    blobs: Blobs
    cache: Path
    caches: Callable[[], Iterable[Path]]


class StorageQuota:
    """What one piece of work of a tenant stores, counted against its quota: ``limit`` in bytes, None where it has none; ``known`` is what
    it had stored before."""

    def __init__(self, ledger: Ledger, tenant: str, limit: int | None, known: Storage) -> None:
        self._ledger = ledger
        self._tenant = tenant
        self._limit = limit
        self._known = known
        self._new: dict[Digest, int] = {}

    def require(self, ahead: int) -> None:
        """Raises Exhausted (``quota_storage``) where ``ahead`` bytes more would pass the quota."""
        self._demand(self._known.all_bytes + sum(self._new.values()) + ahead)

    def require_new(self, ahead: Sequence[tuple[int, Callable[[], Digest]]]) -> None:
        """The same for artifacts by size and digest. Only where there is no room it is looked whether some are counted already."""
        try:
            self.require(sum(size for size, _ in ahead))
        except Exhausted:
            sizes = {digest(): size for size, digest in ahead}
            with self._ledger.work(self._tenant, write=False) as work:
                counted = work.storage.counted(sizes.keys()) | self._new.keys()
            self.require(sum(size for digest, size in sizes.items() if digest not in counted))

    def count(self, sizes: Mapping[Digest, int]) -> None:
        """Counts artifacts that were put."""
        self._new |= sizes

    def forget(self, digest: Digest) -> bool:
        """What is to be destroyed counts no longer. True where another tenant has stored the same bytes as its own."""
        self._new.pop(digest, None)
        with self._ledger.work(self._tenant) as work:
            work.storage.forget([digest])
        with self._ledger.system(write=False) as system:
            return bool(system.stored.by_others(self._tenant, [digest]))

    def enter(self, work: UnitOfWork, *, bounded: bool = True) -> None:
        """Enters in the record what was put since the last time; ``entered`` once that has committed. Raises Exhausted where other work
        of the tenant was faster, unless it is not ``bounded``."""
        if self._new:
            work.storage.add(self._new)
            if bounded:
                self._demand(work.storage.total().bytes + self._known.working_bytes)

    def entered(self) -> None:
        """What ``enter`` entered is in the record for good."""
        self._new = {}

    def enter_rest(self, *, bounded: bool) -> None:
        """Enters the rest in a transaction of its own."""
        if self._new:
            with self._ledger.work(self._tenant) as work:
                self.enter(work, bounded=bounded)
            self.entered()

    def _demand(self, after: int) -> None:
        if self._limit is not None and after > self._limit:
            raise Exhausted(
                f"the storage quota of {self._tenant} would be passed: {after:,} of {self._limit:,} bytes",
                f"ask an admin of the host for more: tailorbird tenant limit {self._tenant} --limit storage_bytes=NUMBER",
                code="quota_storage",
            )


class ArtifactStore:
    """Bytes by their digest: snapshots, adapters, weights, reports. What is put is never changed; every read checks the digest. Safe to
    share between threads and processes. ``url`` is where the store is, for those that open more of what lies there.

    A *tree* is a folder: its digest names a canonical JSON manifest ``{relative path: digest of the file}``.

    Of a tenant whose work is encrypted, ``own`` opens the encrypted part on first use (None: there is none). What is put goes there, but
    for what is public; what is read is looked for there first, and then among what lies in the clear. ``quota`` counts what is put.
    """

    def __init__(self, blobs: Blobs, cache: Path, url: str = "", caches: Callable[[], Iterable[Path]] = tuple) -> None:
        self._clear = _ArtifactPlace(blobs, cache, caches)
        self._url = url
        self._own: Callable[[], ArtifactStore | None] = lambda: None
        self._quota: StorageQuota | None = None

    def sealed_by(self, key: DataKey, clear: Path, others: Callable[[], Iterable[Path]] = tuple) -> ArtifactStore:
        """The part of this place that ``key`` has encrypted. Trees that are asked for are decrypted to the folder ``clear``; what goes is
        removed from the folders of ``others``, too."""
        return ArtifactStore(SealedBlobs(self.sealed_files(key.scope), key), clear.absolute(), caches=others)

    def sealed_files(self, scope: str) -> Blobs:
        """The files of one key, as they lie there."""
        return _open_blobs(self._url, self._clear.cache, f"sealed/{scope}", hashed=False)

    def of_tenant(self, own: Callable[[], ArtifactStore | None]) -> ArtifactStore:
        """The same store for a tenant whose encrypted part ``own`` opens."""
        same = copy(self)
        same._own = own
        return same

    def counted(self, quota: StorageQuota) -> ArtifactStore:
        """The same store, where ``quota`` counts and bounds what is put."""
        same = copy(self)
        same._quota = quota
        return same

    def put(self, *parts: bytes | memoryview) -> Digest:
        """Stores ``parts`` as one, never joined in memory, and returns the digest of the whole. Raises Unavailable, Exhausted
        (``quota_storage``)."""
        if self._quota is not None:
            self._quota.require_new([(sum(map(len, parts)), lambda: digest_bytes(*parts))])
        return self._put(self._places()[0], parts)

    def _put(self, place: _ArtifactPlace, parts: Sequence[bytes | memoryview]) -> Digest:
        digest, size = digest_bytes(*parts), sum(map(len, parts))
        if place.blobs.size(_name(digest)) != size:
            place.blobs.add(_name(digest), reader_of(parts, 1 << 20))
        if self._quota is not None:
            self._quota.count({digest: size})
        return digest

    def get(self, digest: Digest) -> bytes:
        """The bytes named ``digest``. Raises NotFound, Corrupt, Unavailable."""
        blobs = self._holder(digest).blobs
        with storage_errors("the artifact store"):
            try:
                with blobs.open(_name(digest)) as stream:
                    data = stream.read()
            except FileNotFoundError:
                raise _missing(digest) from None
        if not blobs.authenticated and digest_bytes(data) != digest:
            raise _altered(digest, blobs)
        return data

    def save(self, digest: Digest, target: Path) -> None:
        """Writes the bytes named ``digest`` to the new file ``target``, piece by piece. Raises NotFound, Corrupt, Unavailable."""
        blobs = self._holder(digest).blobs
        with storage_errors("the artifact store"):
            try:
                source = blobs.open(_name(digest))
            except FileNotFoundError:
                raise _missing(digest) from None
            with source, target.open("xb") as file:
                try:
                    if _copied(blobs, digest, source, file) != digest:
                        raise _altered(digest, blobs)
                except Corrupt:
                    target.unlink()
                    raise

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        """Stores every file below ``folder``. What is ``public`` is nobody's secret: it lies once, in the clear, for all tenants.

        Raises Unavailable, Exhausted (``quota_storage``), and InvalidInput for a link or what else is neither file nor folder.
        """
        if not folder.is_dir():
            raise InvalidInput(f"{folder} is not a folder", "give the folder whose files are to be stored")
        place = self._clear if public else self._places()[0]
        with storage_errors(folder):
            files = {path.relative_to(folder).as_posix(): path for path in _below(folder)}
            if self._quota is not None:
                self._quota.require_new([(path.stat().st_size, partial(digest_file, path)) for path in files.values() if path.is_file()])
            manifest = {name: self._put_file(place, path) for name, path in files.items()}
        return self._put(place, [_manifest_bytes(manifest)])

    def get_tree(self, digest: Digest) -> Path:
        """A local folder with the tree's files, read-only, all bytes of each compared just now. Raises NotFound, Corrupt, Unavailable."""
        manifest, cache = self.tree(digest), self._holder(digest).cache
        folder = cache / _name(digest)
        with storage_errors(cache):
            if folder.is_dir():
                _check(manifest, folder, f"delete the folder {folder}: it is a copy and will be made again")
            else:
                self._materialise(manifest, cache, folder)
        return folder

    def tree(self, digest: Digest) -> dict[str, Digest]:
        """The manifest of a tree. Raises NotFound, and Corrupt when ``digest`` names something else than a tree."""
        data = self.get(digest)
        try:
            manifest = _MANIFEST.validate_json(data)
        except ValidationError:
            raise _not_a_tree(digest) from None
        if not all(map(_is_inside, manifest)):
            raise _not_a_tree(digest)
        return manifest

    def exists(self, digest: Digest) -> bool:
        """True when something is stored under ``digest``."""
        return self.size(digest) is not None

    def size(self, digest: Digest) -> int | None:
        """Bytes stored under ``digest``; None when there is nothing."""
        return self._holder(digest).blobs.size(_name(digest))

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """Destroys the bytes named ``digest``, and every cached tree with them in it. False when nothing was destroyed.

        What lies in the clear stays where it is ``shared``: where others hold it, too. The bytes go first: what is being read meanwhile has
        linked or copied them by then, and is found; what comes later finds nothing.
        """
        if self._quota is not None:
            shared |= self._quota.forget(digest)
        gone = False
        for place in self._places():
            size = place.blobs.size(_name(digest))
            if place is not self._clear or not shared:
                place.blobs.remove(_name(digest))
                gone |= size is not None
            self._forget_copies(place, digest, size)
        return gone

    def forget_copies(self, digest: Digest) -> None:
        """Removes every cached tree that is named ``digest`` or holds its bytes, and nothing else: they are made again when read."""
        for place in self._places():
            self._forget_copies(place, digest, place.blobs.size(_name(digest)))

    def _forget_copies(self, place: _ArtifactPlace, digest: Digest, size: int | None) -> None:
        place.blobs.drop_abandoned()
        for cache in dict.fromkeys((place.cache, *place.caches())):
            with storage_errors(cache):
                for folder in list(self._cached_with(cache, digest, size)):
                    remove_folder(folder)

    def _cached_with(self, cache: Path, digest: Digest, size: int | None) -> Iterator[Path]:
        """Cached trees, and those that are being built, that hold the bytes. Where their ``size`` is not known any more, a whole tree is
        judged by its manifest; one whose manifest is gone is nobody's."""
        for folder in _folders(cache / "unfinished"):
            if _has_file(folder, digest, size):
                yield folder
        for folder in _folders(cache):
            if _TREE.fullmatch(folder.name) and (
                folder.name == _name(digest) or (self._names(folder, digest) if size is None else _has_file(folder, digest, size))
            ):
                yield folder

    def _names(self, folder: Path, digest: Digest) -> bool:
        try:
            return digest in self.tree(f"sha256:{folder.name}").values()
        except (NotFound, Corrupt):
            return True

    def digests(self) -> Iterator[Digest]:
        """Names of everything that is stored, in no order. What is stored meanwhile may be among them. Raises Unavailable."""
        for name in {name for place in self._places() for name in place.blobs.names()}:
            yield f"sha256:{name}"

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """Stores the bytes in another store, too, piece by piece. False when they were there. Raises NotFound, Corrupt, Unavailable."""
        name, blobs, target = _name(digest), self._holder(digest).blobs, to._places()[0].blobs
        size = blobs.size(name)
        if size is None:
            raise _missing(digest)
        if target.size(name) == size:
            return False
        try:
            with storage_errors("the artifact store"), blobs.open(name) as source:
                target.add(name, source)
        except Conflict:
            raise _altered(digest, blobs) from None
        return True

    def _places(self) -> list[_ArtifactPlace]:
        """Where artifacts of this store lie: what is put goes to the first."""
        own = self._own()
        return [self._clear] if own is None else [own._clear, self._clear]

    def _holder(self, digest: Digest) -> _ArtifactPlace:
        """The place that is asked for an artifact."""
        *own, clear = self._places()
        return next((place for place in own if place.blobs.size(_name(digest)) is not None), clear)

    def _put_file(self, place: _ArtifactPlace, path: Path) -> Digest:
        if path.is_symlink() or not path.is_file():
            raise InvalidInput(f"{path} is neither a file nor a folder", "put a real file in its place: links are not followed")
        with path.open("rb") as source:
            digest, size = "sha256:" + hashlib.file_digest(source, "sha256").hexdigest(), source.tell()
            if place.blobs.size(_name(digest)) != size:
                source.seek(0)
                place.blobs.add(_name(digest), source)
        if self._quota is not None:
            self._quota.count({digest: size})
        return digest

    def _materialise(self, manifest: dict[str, Digest], cache: Path, folder: Path) -> None:
        """Builds the folder elsewhere, checks every file, and renames it: it is whole or not there, whoever is killed or builds it, too."""
        built = unfinished(cache)
        try:
            private_folder(built)
            for path, digest in manifest.items():
                private_folder((built / path).parent)
                blobs = self._holder(digest).blobs
                if _fetch(blobs, digest, built / path) != digest:
                    raise _altered(digest, blobs, f" ({path})")
            try:
                built.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first, and has checked what it made
                    raise
        finally:
            shutil.rmtree(built, ignore_errors=True)


def _fetch(blobs: Blobs, digest: Digest, target: Path) -> Digest | None:
    """A link to the file, or a copy; the digest of what is there now, None for what is no plain file."""
    stored = blobs.local(_name(digest))
    try:
        if stored is not None and _linked(stored, target):
            return _digest_of_file(target)
        with blobs.open(_name(digest)) as source, target.open("xb") as file:
            copied = _copied(blobs, digest, source, file)
        target.chmod(OWNER_READS)
    except FileNotFoundError:
        raise _missing(digest) from None
    return copied


def _copied(blobs: Blobs, digest: Digest, source: IO[bytes], target: IO[bytes]) -> Digest:
    """Writes what was stored under ``digest``; the digest of what was written. Raises Corrupt."""
    if not blobs.authenticated:
        return copy_hashed(source, target)
    copy_rest(source, target)
    return digest


def _altered(digest: Digest, blobs: Blobs, path: str = "") -> Corrupt:
    where = blobs.local(_name(digest)) or digest
    return _changed(f"the artifact {short(digest)}{path}", f"restore {where} from a backup, or delete it and make it again")


def open_artifacts(url: str, cache: Path) -> ArtifactStore:
    """The artifact store at ``url``: a local path, or a URL of a file system that fsspec knows (``s3://bucket/folder``).

    ``cache`` is the folder for the trees that are asked for. Where store and cache share a disk, a tree takes no space of its own: its
    files are hard links. Raises InvalidInput (unknown kind of URL), Unavailable (its package is not installed).
    """
    return ArtifactStore(_open_blobs(url, cache.absolute()), cache.absolute(), url)


def _open_blobs(url: str, spool: Path, below: str = "", *, hashed: bool = True) -> Blobs:
    """Blobs at ``url``, in the folder ``below``; ``spool`` is where uploads wait."""
    if url.startswith("/"):  # a path, also where it holds what joins the parts of a URL: ``::``
        return LocalBlobs(Path(url) / below, hashed=hashed)
    try:
        files, root = url_to_fs(url)
    except ValueError as error:
        raise InvalidInput(f"artifacts cannot be kept at {url}", "give a folder, or a URL such as s3://bucket/folder") from error
    except ImportError as error:
        hint = f"install the package that fsspec needs for {url.partition(':')[0]}:// and try again"
        raise Unavailable(f"artifacts at {url} need a package that is not installed", hint, code="package_missing") from error
    if isinstance(files, LocalFileSystem):
        return LocalBlobs(Path(root) / below, hashed=hashed)
    return RemoteBlobs(files, f"{root.rstrip('/')}/{below}", spool, hashed=hashed)


def _check(manifest: dict[str, Digest], folder: Path, hint: str) -> None:
    """Raises Corrupt, with ``hint``, unless ``folder`` holds exactly the files of ``manifest``."""
    found = {path.relative_to(folder).as_posix(): path for path in _below(folder)}
    for name in sorted(manifest.keys() | found.keys()):
        path, digest = found.get(name), manifest.get(name)
        if path is None or digest is None or path.is_symlink() or not path.is_file() or known_digest(path) != digest:
            raise _changed(f"the file {name} of {folder}", hint)


def _folders(place: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in place.iterdir() if path.is_dir() and not path.is_symlink()]
    return []


def _has_file(folder: Path, digest: Digest, size: int | None) -> bool:
    """True when a file below ``folder`` has these bytes. What goes meanwhile is no file."""
    try:
        return any((size is None or path.lstat().st_size == size) and _digest_of_file(path) == digest for path in _below(folder))
    except FileNotFoundError:
        return False


def _digest_of_file(path: Path) -> Digest | None:
    """None for what is not a plain file."""
    if path.is_symlink() or not path.is_file():
        return None
    return digest_file(path)


def _below(folder: Path) -> Iterator[Path]:
    """Everything below ``folder`` that is not a folder; links to folders are not followed."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        else:
            yield path


def _linked(stored: Path, target: Path) -> bool:
    """True when ``target`` could be made a hard link; False where the disk, or its rules, do not allow one. Raises FileNotFoundError."""
    try:
        os.link(stored, target)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _manifest_bytes(manifest: dict[str, Digest]) -> bytes:
    try:
        return canonical_json(manifest)
    except ValueError:
        raise InvalidInput("a file's name is not UTF-8", "rename the file") from None


def _is_inside(path: str) -> bool:
    """False for a path that would lead out of its folder, or that has a second spelling."""
    pure = PurePosixPath(path)
    return (
        path == str(pure)
        and not pure.is_absolute()
        and pure.parts != ()
        and not {"..", "."} & set(pure.parts)
        and not set(path) & {"\\", "\0"}
    )


def _name(digest: Digest) -> str:
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"{digest} is not a digest", "a digest is sha256: and 64 hexadecimal digits", code="digest")
    return digest.removeprefix("sha256:")


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"no artifact {short(digest)} is stored", "check the digest, and that the artifacts' place is the right one")


def _changed(what: str, hint: str) -> Corrupt:
    return Corrupt(f"{what} is not what was stored: its bytes were changed", hint, code="artifact_corrupt")


def _not_a_tree(digest: Digest) -> Corrupt:
    return Corrupt(f"the artifact {short(digest)} is not a tree", "give the digest of a folder, not of a file")
