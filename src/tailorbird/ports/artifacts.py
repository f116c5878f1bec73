"""Bytes by digest: snapshots, adapters, weights, reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tailorbird.domain.value import Digest


class ArtifactStore(Protocol):
    """Content-addressed storage. What is put is never changed; every read checks the digest.

    A *tree* is a folder: its digest names a canonical JSON manifest ``{relative path: digest of the file}``.
    """

    def put(self, *parts: bytes | memoryview) -> Digest:
        """Stores ``parts`` as one, in their order, and returns the digest of the whole. Putting the same bytes twice is free."""
        ...

    def get(self, digest: Digest) -> bytes:
        """The bytes named ``digest``. Raises NotFound, or Corrupt when the stored bytes do not match."""
        ...

    def put_tree(self, folder: Path) -> Digest:
        """Stores every regular file below ``folder`` and returns the digest of the tree."""
        ...

    def get_tree(self, digest: Digest) -> Path:
        """A local, read-only folder with the tree's files, each checked. Raises NotFound or Corrupt."""
        ...

    def tree(self, digest: Digest) -> dict[str, Digest]:
        """The manifest of a tree: relative path to digest of the file."""
        ...

    def exists(self, digest: Digest) -> bool:
        """True when something is stored under ``digest``."""
        ...

    def digests(self) -> Iterator[Digest]:
        """Names of everything that is stored, in no order. What is stored meanwhile may be among them. Raises Unavailable."""
        ...

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """Stores the bytes named ``digest`` in another store, too, checked on the way. False when they were there.

        Raises NotFound, Corrupt, Unavailable.
        """
        ...


class ErasableStore(ArtifactStore, Protocol):
    """A store whose bytes can be destroyed: for what a person asked to be forgotten, or a tenant that is removed."""

    def save(self, digest: Digest, target: Path) -> None:
        """Writes the bytes named ``digest`` to the new file ``target``, without holding them in memory. Raises as ``get``; then there is no
        such file."""
        ...

    def size(self, digest: Digest) -> int | None:
        """Bytes stored under ``digest``; None when there is nothing."""
        ...

    def destroy(self, digest: Digest) -> bool:
        """Destroys the bytes named ``digest``, and this machine's copy of the tree, where it names one. False when nothing was there."""
        ...
