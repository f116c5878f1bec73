"""Artifact store: bytes and folders by digest, checked on every read."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import TypeAdapter, ValidationError

from tailorbird.crypto.canonical_json import canonical_json, digest_bytes, short
from tailorbird.crypto.sealed_stream import FileSeals, reader_of
from tailorbird.domain.data_key import DataKey
from tailorbird.domain.errors import Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ledger.blobs import Blobs, LocalBlobs, RemoteBlobs, storage_errors, unfinished
from tailorbird.ledger.sealed_blobs import SealedBlobs
from tailorbird.ports.artifacts import ArtifactStore, ErasableStore, SealableStore
from tailorbird.system.files import OWNER_READS, copy_hashed, copy_rest, digest_file, private_folder, remove_folder

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TREE = re.compile(r"[0-9a-f]{64}")
_MANIFEST = TypeAdapter(dict[str, Digest])
#: A base is read for each adapter that is loaded on it.
_SEALS = FileSeals()


class Artifacts:
    """Implements ``SealableStore``. Safe to share between threads and processes. ``url`` is where the blobs are, for those that open more
    of what lies there."""

    def __init__(self, blobs: Blobs, cache: Path, url: str = "", caches: Callable[[], Iterable[Path]] = tuple) -> None:
        self._blobs = blobs
        self._cache = cache
        self._url = url
        self._caches = caches

    def sealed_by(self, key: DataKey, clear: Path, others: Callable[[], Iterable[Path]] = tuple) -> ErasableStore:
        """The part of this place that ``key`` has encrypted. Trees that are asked for are decrypted to the folder ``clear``; what goes is
        removed from the folders of ``others``, too."""
        return Artifacts(SealedBlobs(self.sealed_files(key.scope), key), clear.absolute(), caches=others)

    def sealed_files(self, scope: str) -> Blobs:
        """The files of one key, as they lie there."""
        return _open_blobs(self._url, self._cache, f"sealed/{scope}", hashed=False)

    def put(self, *parts: bytes | memoryview) -> Digest:
        """Stores ``parts`` as one, never joined in memory, and returns the digest of the whole. Raises Unavailable."""
        digest = digest_bytes(*parts)
        if self._blobs.size(_name(digest)) != sum(map(len, parts)):
            self._blobs.add(_name(digest), reader_of(parts, 1 << 20))
        return digest

    def get(self, digest: Digest) -> bytes:
        """The bytes named ``digest``. Raises NotFound, Corrupt, Unavailable."""
        with storage_errors("the artifact store"):
            try:
                with self._blobs.open(_name(digest)) as stream:
                    data = stream.read()
            except FileNotFoundError:
                raise _missing(digest) from None
        if not self._blobs.authenticated and digest_bytes(data) != digest:
            raise self._changed(digest)
        return data

    def save(self, digest: Digest, target: Path) -> None:
        """Writes the bytes named ``digest`` to the new file ``target``, piece by piece. Raises NotFound, Corrupt, Unavailable."""
        with storage_errors("the artifact store"):
            try:
                source = self._blobs.open(_name(digest))
            except FileNotFoundError:
                raise _missing(digest) from None
            with source, target.open("xb") as copy:
                try:
                    if self._copied(digest, source, copy) != digest:
                        raise self._changed(digest)
                except Corrupt:
                    target.unlink()
                    raise

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:  # noqa: ARG002 - all of it lies alike
        """Stores every file below ``folder``. Raises Unavailable, and InvalidInput for a link or what else is neither file nor folder."""
        if not folder.is_dir():
            raise InvalidInput(f"{folder} is not a folder", "give the folder whose files are to be stored", code="artifact_folder")
        with storage_errors(folder):
            manifest = {path.relative_to(folder).as_posix(): self._put_file(path) for path in _below(folder)}
        return self.put(_manifest_bytes(manifest))

    def get_tree(self, digest: Digest) -> Path:
        """A local folder with the tree's files, read-only, all bytes of each compared just now. Raises NotFound, Corrupt, Unavailable."""
        manifest, folder = self.tree(digest), self._cache / _name(digest)
        with storage_errors(self._cache):
            if folder.is_dir():
                _check(manifest, folder, f"delete the folder {folder}: it is a copy and will be made again")
            else:
                self._materialise(manifest, folder)
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
        return self._blobs.size(_name(digest)) is not None

    def size(self, digest: Digest) -> int | None:
        """Bytes stored under ``digest``."""
        return self._blobs.size(_name(digest))

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """Destroys the bytes named ``digest``, unless they are ``shared``, and every cached tree with them in it. False when nothing was.

        The bytes go first: what is being read meanwhile has linked or copied them by then, and is found; what comes later finds nothing.
        """
        if shared:
            self.forget_copies(digest)
            return False
        size = self._blobs.size(_name(digest))
        self._blobs.remove(_name(digest))
        self._forget_copies(digest, size)
        return size is not None

    def forget_copies(self, digest: Digest) -> None:
        """Removes every cached tree that is named ``digest`` or holds its bytes."""
        self._forget_copies(digest, self._blobs.size(_name(digest)))

    def _forget_copies(self, digest: Digest, size: int | None) -> None:
        self._blobs.drop_abandoned()
        for cache in dict.fromkeys((self._cache, *self._caches())):
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
            if _TREE.fullmatch(folder.name) and self._is_of(folder, digest, size):
                yield folder

    def _is_of(self, folder: Path, digest: Digest, size: int | None) -> bool:
        if folder.name == _name(digest):
            return True
        return self._names(folder, digest) if size is None else _has_file(folder, digest, size)

    def _names(self, folder: Path, digest: Digest) -> bool:
        try:
            return digest in self.tree(f"sha256:{folder.name}").values()
        except (NotFound, Corrupt):
            return True

    def digests(self) -> Iterator[Digest]:
        """Names of everything that is stored, in no order. Raises Unavailable."""
        for name in self._blobs.names():
            yield f"sha256:{name}"

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """Stores the bytes in another store, too, piece by piece. False when they were there. Raises NotFound, Corrupt, Unavailable."""
        if not isinstance(to, Artifacts):
            new = not to.exists(digest)
            to.put(self.get(digest))
            return new
        name = _name(digest)
        size = self._blobs.size(name)
        if size is None:
            raise _missing(digest)
        if to._blobs.size(name) == size:
            return False
        try:
            with storage_errors("the artifact store"), self._blobs.open(name) as source:
                to._blobs.add(name, source)
        except Conflict:
            raise self._changed(digest) from None
        return True

    def _put_file(self, path: Path) -> Digest:
        if path.is_symlink() or not path.is_file():
            raise InvalidInput(
                f"{path} is neither a file nor a folder", "put a real file in its place: links are not followed", code="artifact_link"
            )
        with path.open("rb") as source:
            digest = "sha256:" + hashlib.file_digest(source, "sha256").hexdigest()
            if self._blobs.size(_name(digest)) != source.tell():
                source.seek(0)
                self._blobs.add(_name(digest), source)
        return digest

    def _materialise(self, manifest: dict[str, Digest], folder: Path) -> None:
        """Builds the folder elsewhere, checks every file, and renames it: it is whole or not there, whoever is killed or builds it, too."""
        built = unfinished(self._cache)
        try:
            private_folder(built)
            for path, digest in manifest.items():
                private_folder((built / path).parent)
                if self._fetch(digest, built / path) != digest:
                    raise self._changed(digest, f" ({path})")
            _publish(built, folder)
        finally:
            shutil.rmtree(built, ignore_errors=True)

    def _fetch(self, digest: Digest, target: Path) -> Digest | None:
        """A link to the file, or a copy; the digest of what is there now, None for what is no plain file."""
        stored = self._blobs.local(_name(digest))
        try:
            if stored is not None and _linked(stored, target):
                return _digest_of_file(target)
            with self._blobs.open(_name(digest)) as source, target.open("xb") as copy:
                copied = self._copied(digest, source, copy)
            target.chmod(OWNER_READS)
        except FileNotFoundError:
            raise _missing(digest) from None
        return copied

    def _copied(self, digest: Digest, source: IO[bytes], target: IO[bytes]) -> Digest:
        """Writes what was stored under ``digest``; the digest of what was written. Raises Corrupt."""
        if not self._blobs.authenticated:
            return copy_hashed(source, target)
        copy_rest(source, target)
        return digest

    def _changed(self, digest: Digest, path: str = "") -> Corrupt:
        where = self._blobs.local(_name(digest)) or digest
        return _changed(f"the artifact {short(digest)}{path}", f"restore {where} from a backup, or delete it and make it again")


def open_artifacts(url: str, cache: Path) -> SealableStore:
    """The artifact store at ``url``: a local path, or a URL of a file system that fsspec knows (``s3://bucket/folder``).

    ``cache`` is the folder for the trees that are asked for. Where store and cache share a disk, a tree takes no space of its own: its
    files are hard links. Raises InvalidInput (unknown kind of URL), Unavailable (its package is not installed).
    """
    return Artifacts(_open_blobs(url, cache.absolute()), cache.absolute(), url)


def _open_blobs(url: str, spool: Path, below: str = "", *, hashed: bool = True) -> Blobs:
    """Blobs at ``url``, in the folder ``below``; ``spool`` is where uploads wait."""
    if url.startswith("/"):  # a path, also where it holds what joins the parts of a URL: ``::``
        return LocalBlobs(Path(url) / below, hashed=hashed)
    try:
        files, root = url_to_fs(url)
    except ValueError as error:
        raise InvalidInput(
            f"artifacts cannot be kept at {url}", "give a folder, or a URL such as s3://bucket/folder", code="artifacts_url"
        ) from error
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
        if path is None or digest is None or path.is_symlink() or not path.is_file() or not _SEALS.is_named(path, digest):
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


def _publish(built: Path, folder: Path) -> None:
    try:
        built.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, and has checked what it made
            raise


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
        raise InvalidInput("a file's name is not UTF-8", "rename the file", code="artifact_name") from None


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
    return NotFound(
        f"no artifact {short(digest)} is stored",
        "check the digest, and that the artifacts' place is the right one",
        code="artifact_missing",
    )


def _changed(what: str, hint: str) -> Corrupt:
    return Corrupt(f"{what} is not what was stored: its bytes were changed", hint, code="artifact_corrupt")


def _not_a_tree(digest: Digest) -> Corrupt:
    return Corrupt(f"the artifact {short(digest)} is not a tree", "give the digest of a folder, not of a file", code="artifact_not_a_tree")
