"""Encrypted blobs of one tenant over blobs in a folder or behind fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, cast

from tailorbird.crypto.sealed_stream import SealedNames, derive, plain_size, read_label, sealing, unsealing
from tailorbird.domain.data_key import DataKey
from tailorbird.ledger.blobs import Blobs, HashedReader


class SealedBlobs:
    """Implements ``Blobs``: names are hashes of plaintext; what is stored below is neither.

    A blob is stored under a keyed hash of its name, encrypted for that very name: names cannot be compared with guesses, and a file that
    was exchanged for another is refused. The name is the label of the file, for whoever lists them. Sizes are as they are. Only what has
    the hash of its name is ever encrypted for it, so that what is decrypted need not be hashed again.
    """

    authenticated = True

    def __init__(self, files: Blobs, key: DataKey) -> None:
        self._files = files
        self._names, self._key = SealedNames(key), derive(key, "files")

    def size(self, name: str) -> int | None:
        """Bytes of plaintext under ``name``; -1 where a file of that size can be none of ours."""
        size = self._files.size(self._names.of(name))
        return None if size is None else plain_size(size)

    def open(self, name: str) -> IO[bytes]:
        """A stream of the plaintext; reading it raises Corrupt. Raises FileNotFoundError."""
        sealed = self._names.of(name)
        return unsealing(self._files.open(sealed), self._key, sealed.encode())

    def add(self, name: str, source: IO[bytes]) -> None:
        """Encrypts and stores the rest of ``source``. Raises Conflict when it does not have the hash ``name``."""
        sealed = self._names.of(name)
        checked = cast(IO[bytes], HashedReader(source, name))
        self._files.add(sealed, sealing(checked, self._key, sealed.encode(), bytes.fromhex(name)))

    def remove(self, name: str) -> bool:
        """Removes the file of ``name``."""
        return self._files.remove(self._names.of(name))

    def names(self) -> Iterator[str]:
        """Every name, read from the labels. Raises Corrupt."""
        for sealed in self._files.names():
            with self._files.open(sealed) as stream:
                yield read_label(stream, self._key, sealed.encode()).hex()

    def local(self, _name: str) -> None:
        """No file of this machine holds the plaintext."""

    def drop_abandoned(self) -> None:
        """Of the encrypted files below."""
        self._files.drop_abandoned()
