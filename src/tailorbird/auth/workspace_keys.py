"""Workspace key from a file or an environment variable: the newest first, each on a line of its own."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tailorbird.crypto.sealed_stream import KEY, seal_bytes, unseal_bytes
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound
from tailorbird.ports.key_service import KeyService
from tailorbird.system.files import OWNER_READS, flush, flush_path, is_open_to_others, private_folder

_SCHEME = "local"


class WorkspaceKeys:
    """Implements ``KeyService`` with the keys that ``read`` gives, the newest first: it wraps, each of them unwraps. They are read again
    where one is asked for that was not there: somebody may have rotated them."""

    def __init__(self, read: Callable[[], Sequence[bytes]], name: str) -> None:
        self._read = read
        self._name = name
        self._take()

    def _take(self) -> None:
        keys = self._read()
        self._keys = {_id_of(key): key for key in keys}
        self._newest = _id_of(keys[0])

    @property
    def name(self) -> str:
        """Where the key is from."""
        return self._name

    def wrap(self, key: bytes, context: str) -> str:
        """``local:ID:BASE64``, sealed with the newest key."""
        sealed = seal_bytes(key, self._keys[self._newest], context.encode())
        return f"{_SCHEME}:{self._newest}:{base64.urlsafe_b64encode(sealed).decode()}"

    def unwrap(self, wrapped: str, context: str) -> bytes:
        """The key. Raises Forbidden (another key wrapped it), Corrupt."""
        scheme, _, rest = wrapped.partition(":")
        number, _, text = rest.partition(":")
        if scheme != _SCHEME:
            raise Forbidden(
                f"the tenants' keys were wrapped by another kind of key service ({scheme[:20]})",
                "set the setting encryption to what it was, or restore the settings of the workspace",
                code="workspace_key_wrong",
            )
        if number not in self._keys:
            self._take()
        if number not in self._keys:
            raise Forbidden(
                f"{self._name} does not hold the key that wrapped this tenant's: {number[:8]} is needed",
                "put the former key back, on a line after the newest",
                code="workspace_key_wrong",
            )
        try:
            return unseal_bytes(base64.urlsafe_b64decode(text), self._keys[number], context.encode())
        except (Corrupt, binascii.Error):
            raise Corrupt(
                "a tenant's wrapped key was changed, or belongs to another tenant",
                "restore the record from a backup",
                code="data_key_corrupt",
            ) from None


def open_key_file(place: Path) -> KeyService:
    """The keys in the file at ``place``. Raises NotFound, Forbidden (open to others), InvalidInput (no keys in it)."""
    return WorkspaceKeys(lambda: _keys_in(place), f"the key file {place}")


def open_key_variable(variable: str, environment: Mapping[str, str] = os.environ) -> KeyService:
    """The keys in an environment variable, separated by white space or commas. Raises NotFound, InvalidInput."""

    def read() -> Sequence[bytes]:
        text = environment.get(variable, "")
        if not text:
            raise NotFound(
                f"the environment variable {variable} is not set, and without it nothing that is encrypted can be read",
                f"set {variable} for this process, as your secret store has it",
                code="workspace_key_missing",
            )
        return _parsed(text.replace(",", " "), variable)

    return WorkspaceKeys(read, f"the variable {variable}")


def _keys_in(place: Path) -> Sequence[bytes]:
    try:
        if is_open_to_others(place):
            raise Forbidden(f"the key file {place} is open to others", f"close it: chmod 400 {place}", code="key_readable")
        text = place.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise NotFound(
            f"the key file {place} is not there, and without it nothing that is encrypted can be read",
            "put it back from where you keep a copy; a new key opens nothing",
            code="workspace_key_missing",
        ) from None
    except OSError as error:
        hint = "give this user the right to read it"
        raise Forbidden(f"the key file {place} cannot be read: {error.strerror}", hint, code="key_unreadable") from error
    return _parsed(text, str(place))


def write_key_file(place: Path) -> None:
    """Makes a key file, for its owner to read alone. Raises Conflict where there is one: it is never replaced."""
    _write_new(place, [new_key()])


def rotate_key_file(place: Path) -> None:
    """Puts a new key before those in the file. Raises as ``open_key_file``."""
    _keys_in(place)
    lines = [new_key(), *place.read_text(encoding="ascii").split()]
    partial = place.with_name(f"{place.name}.new")
    partial.unlink(missing_ok=True)
    _write_new(partial, lines)
    partial.replace(place)
    flush_path(place.parent)


def new_key() -> str:
    """A key as it stands on a line."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY)).decode()


def _write_new(place: Path, lines: Sequence[str]) -> None:
    private_folder(place.parent)
    try:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_READS)
    except FileExistsError:
        raise Conflict(f"there is a key file {place} already", "it is never replaced: move it away first", code="key_exists") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write("".join(f"{line}\n" for line in lines))
        flush(file)
    flush_path(place.parent)


def _parsed(text: str, where: str) -> list[bytes]:
    keys = []
    for line in text.split():
        try:
            keys.append(base64.urlsafe_b64decode(line))
        except (binascii.Error, ValueError):
            keys.append(b"")
    if not keys or any(len(key) != KEY for key in keys):
        raise InvalidInput(
            f"{where} holds no keys", f"one a line, newest first: {KEY} random bytes in URL-safe base64", code="workspace_key_invalid"
        )
    return keys


def _id_of(key: bytes) -> str:
    """What a key is known by, without giving anything of it away."""
    return HKDF(SHA256(), 8, None, b"tailorbird workspace key id").derive(key).hex()
