"""Keys for names, files and texts, derived from the data key of a tenant."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tailorbird.crypto.sealed_stream import KEY
from tailorbird.domain.data_key import DataKey


def new_data_key() -> DataKey:
    """A fresh key."""
    return DataKey(secrets.token_hex(16), secrets.token_bytes(KEY))


def derive(key: DataKey, purpose: str) -> bytes:
    """The key for one purpose (HKDF-SHA256)."""
    return HKDF(SHA256(), KEY, key.scope.encode(), b"tailorbird data key 1\x00" + purpose.encode()).derive(key.secret)


def fingerprint(key: DataKey) -> str:
    """What a key is known by, without giving anything of it away."""
    return derive(key, "fingerprint").hex()[:32]


class SealedNames:
    """Names under a key: whoever guesses a text, and so its digest, cannot look whether it is there."""

    def __init__(self, key: DataKey) -> None:
        self._key = derive(key, "names")

    def of(self, name: str) -> str:
        """64 hexadecimal digits in place of ``name``."""
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()
