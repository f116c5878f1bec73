"""In-memory key service."""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode

from tailorbird.crypto.sealed_stream import KEY, seal_bytes, unseal_bytes
from tailorbird.domain.errors import Corrupt, Forbidden, Unavailable


class MemoryKeyService:
    """A ``KeyService`` for one process. ``rotate`` makes a new version, ``away`` has it answer nothing."""

    name = "the key service of a test"

    def __init__(self) -> None:
        self._versions = [secrets.token_bytes(KEY)]
        self.away = False

    def rotate(self) -> None:
        """From now on another version wraps."""
        self._versions.append(secrets.token_bytes(KEY))

    def forget(self) -> None:
        """Destroys all versions but the newest."""
        self._versions = (
            [b"", *self._versions[-1:]] if len(self._versions) == 2 else [b""] * (len(self._versions) - 1) + self._versions[-1:]
        )

    def wrap(self, key: bytes, context: str) -> str:
        """``memory:VERSION:BASE64``."""
        self._answer()
        sealed = seal_bytes(key, self._versions[-1], context.encode())
        return f"memory:{len(self._versions) - 1}:{b64encode(sealed).decode()}"

    def unwrap(self, wrapped: str, context: str) -> bytes:
        """The key. Raises Forbidden, Corrupt, Unavailable."""
        self._answer()
        scheme, version, text = wrapped.split(":", 2)
        if scheme != "memory" or not self._versions[int(version)]:
            raise Forbidden("another key service wrapped this", "ask that one", code="forbidden")
        try:
            return unseal_bytes(b64decode(text), self._versions[int(version)], context.encode())
        except (Corrupt, ValueError):
            raise Corrupt("a wrapped key was changed", "restore it", code="data_key_corrupt") from None

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the key service does not answer", "wait", code="key_service_unreachable")
