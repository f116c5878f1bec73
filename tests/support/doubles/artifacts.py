"""In-memory artifact store; trees are written below one folder when they are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tailorbird.crypto.canonical_json import canonical_json, digest_bytes, short
from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.domain.value import Digest
from tailorbird.ledger.artifacts import ArtifactStore


class MemoryArtifacts:
    """An ``ArtifactStore`` for one process. ``folder`` is where read trees appear."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored: dict[Digest, bytes] = {}

    def put(self, *parts: bytes | memoryview) -> Digest:
        """Stores ``parts`` as one under its digest."""
        data = b"".join(parts)
        digest = digest_bytes(data)
        self._stored[digest] = data
        return digest

    def get(self, digest: Digest) -> bytes:
        """The bytes named ``digest``. Raises NotFound or Corrupt."""
        data = self._stored.get(digest)
        if data is None:
            raise NotFound(f"no artifact {short(digest)}", "check the digest, or restore the artifact store", code="not_found")
        if digest_bytes(data) != digest:
            raise Corrupt(f"artifact {short(digest)} was changed", "restore the artifact store from a backup", code="artifact_corrupt")
        return data

    def save(self, digest: Digest, target: Path) -> None:
        """Writes the bytes named ``digest`` to ``target``. Raises NotFound or Corrupt."""
        target.write_bytes(self.get(digest))

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        """Stores every regular file below ``folder`` and returns the digest of the tree."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return self.put(canonical_json({path.relative_to(folder).as_posix(): self.put(path.read_bytes()) for path in files}))

    def get_tree(self, digest: Digest) -> Path:
        """A local folder with the tree's files, each checked on every call. Raises NotFound or Corrupt."""
        target = self._folder / short(digest, 64)
        for name, file in self.tree(digest).items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(file))
        return target

    def tree(self, digest: Digest) -> dict[str, Digest]:
        """The manifest of a tree. Raises NotFound, or Corrupt when ``digest`` names something else."""
        try:
            manifest: dict[str, Digest] = json.loads(self.get(digest))
        except ValueError as error:
            raise Corrupt(f"artifact {short(digest)} is not a tree", "give the digest of a tree", code="artifact_not_tree") from error
        return manifest

    def exists(self, digest: Digest) -> bool:
        """True when something is stored under ``digest``."""
        return digest in self._stored

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """Destroys the bytes named ``digest``, unless they are ``shared``, and every read tree with them in it. False when nothing was."""
        self.forget_copies(digest)
        return not shared and self._stored.pop(digest, None) is not None

    def forget_copies(self, digest: Digest) -> None:
        """Removes every read tree that is named ``digest`` or holds its bytes."""
        for folder in list(self._folder.iterdir()) if self._folder.is_dir() else ():
            files = [path for path in folder.rglob("*") if path.is_file()]
            if folder.name == short(digest, 64) or any(digest_bytes(path.read_bytes()) == digest for path in files):
                shutil.rmtree(folder)

    def digests(self) -> Iterator[Digest]:
        """Names of everything that is stored."""
        yield from tuple(self._stored)

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """Stores the bytes in another store, too. Raises NotFound or Corrupt."""
        new = not to.exists(digest)
        to.put(self.get(digest))
        return new

    def size(self, digest: Digest) -> int | None:
        """Bytes stored under ``digest``."""
        return len(self._stored[digest]) if digest in self._stored else None

    def spoil(self, digest: Digest) -> None:
        """Changes the bytes stored under ``digest``, as a failing disk or an intruder would."""
        self._stored[digest] += b"\0"
