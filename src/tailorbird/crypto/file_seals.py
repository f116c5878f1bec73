"""Seals of files: tell whether bytes are those that this process has read before, in a tenth of the time of a digest.

A seal is a MAC (AES-GMAC, NIST SP 800-38D, with a nonce of its own) by a key that never leaves the process, and neither does the seal.
Whoever changes a file does not know the key, so that no other bytes have its seal but by a chance of less than 2^-90.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from tailorbird.domain.value import Digest

_NONCE = 12
_PIECE = 2**20
#: Files whose seals are remembered: a hundred bytes each.
_MOST = 4096


class FolderSeals:
    """Seals of folders: names and bytes of all files below them. Thread-safe."""

    def __init__(self) -> None:
        self._key = AES(os.urandom(32))

    def seal(self, folder: Path) -> bytes:
        """The seal of ``folder``; empty for what is no folder. Raises OSError."""
        nonce = os.urandom(_NONCE)
        return nonce + self._tag(folder, nonce) if folder.is_dir() else b""

    def holds(self, folder: Path, seal: bytes) -> bool:
        """True where the files are those that were sealed. Raises OSError."""
        if not seal or not folder.is_dir():
            return not seal and not folder.is_dir()
        return hmac.compare_digest(self._tag(folder, seal[:_NONCE]), seal[_NONCE:])

    def _tag(self, folder: Path, nonce: bytes) -> bytes:
        mac = Cipher(self._key, GCM(nonce)).encryptor()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            size = 0
            for piece in _pieces(path):
                mac.authenticate_additional_data(piece)
                size += len(piece)
            # Read from the end, what is a name and what are bytes can be told in one way only.
            name = os.fsencode(path.relative_to(folder))
            mac.authenticate_additional_data(name + len(name).to_bytes(8) + size.to_bytes(8))
        return _ended(mac)


class FileSeals:
    """Files by their digests: bytes that were hashed once are known again by their seal. Thread-safe."""

    def __init__(self, most: int = _MOST) -> None:
        self._key, self._most = AES(os.urandom(32)), most
        self._lock = threading.Lock()
        self._seals: dict[Digest, bytes] = {}

    def is_named(self, path: Path, digest: Digest) -> bool:
        """True where the bytes of the file have this digest. Raises OSError."""
        with self._lock:
            seal = self._seals.get(digest)
        if seal is not None:
            return hmac.compare_digest(self._tag(path, seal[:_NONCE]), seal[_NONCE:])
        nonce, hashed = os.urandom(_NONCE), hashlib.sha256()
        tag = self._tag(path, nonce, hashed)
        if f"sha256:{hashed.hexdigest()}" != digest:
            return False
        with self._lock:
            self._seals[digest] = nonce + tag
            if len(self._seals) > self._most:
                del self._seals[next(iter(self._seals))]
        return True

    def _tag(self, path: Path, nonce: bytes, hashed: Any = None) -> bytes:
        mac = Cipher(self._key, GCM(nonce)).encryptor()
        for piece in _pieces(path):
            mac.authenticate_additional_data(piece)
            if hashed is not None:  # the same bytes, read once
                hashed.update(piece)
        return _ended(mac)


def _pieces(path: Path) -> Iterator[memoryview]:
    """What the file holds, piece by piece; each is gone with the next."""
    room = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(room):
            yield room[:count]


def _ended(mac: Any) -> bytes:
    mac.finalize()
    return bytes(mac.tag)
