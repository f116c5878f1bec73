"""Bytes by digest: snapshots, adapters, weights, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

from tailorbird.domain.data_key import DataKey
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

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        """Stores every regular file below ``folder`` and returns the digest of the tree. What is ``public`` is nobody's secret: a store
        that encrypts keeps it once, in the clear, for all tenants."""
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

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """Destroys the bytes named ``digest``, and this machine's copies: the tree, where it names one, and every tree with them in it.

        ``shared``: others hold them, too, and where they lie once for all of them, the copies alone go. False when nothing was destroyed;
        copies go all the same.
        """
        ...

    def forget_copies(self, digest: Digest) -> None:
        """Removes this machine's copies of the bytes named ``digest``, and nothing else: they are made again where they are read."""
        ...


class StoredFiles(Protocol):
    """Files by a name of 64 hexadecimal digits, as they lie in a store: encrypted, and not to be understood without a key.

    Errors of the storage come out as Unavailable.
    """

    def size(self, name: str) -> int | None:
        """Bytes of the file called ``name``; None when there is none."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A stream of the file. Raises FileNotFoundError."""
        ...

    def add(self, name: str, source: IO[bytes]) -> None:
        """Stores the rest of ``source`` as the file called ``name``, in place of what is there."""
        ...

    def remove(self, name: str) -> bool:
        """Removes the file; False when there is none."""
        ...

    def names(self) -> Iterator[str]:
        """Every name."""
        ...


class SealableStore(ErasableStore, Protocol):
    """A store that can hold parts encrypted beside what lies in the clear, each part under a key of its own."""

    def sealed_by(self, key: DataKey, clear: Path, others: Callable[[], Iterable[Path]] = tuple) -> ErasableStore:
        """The part that ``key`` has encrypted. Trees that are asked for are decrypted to the folder ``clear``; copies of what goes are
        removed from the folders of ``others``, too."""
        ...

    def sealed_files(self, scope: str) -> StoredFiles:
        """The files of the key of ``scope``, as they lie there."""
        ...
