"""Ed25519 keys of identities, in files that only their owner can read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tailorbird.crypto.sealed_stream import KEY, seal_bytes, unseal_bytes
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, Unauthenticated
from tailorbird.domain.identity import Identity
from tailorbird.ports.key_service import KeyService
from tailorbird.system.files import EVERYBODY_ELSE, OWNER_FILE, OWNER_READS, flush, flush_path, is_open_to_others, private_folder

PrivateKey: TypeAlias = Ed25519PrivateKey


def create_key(path: Path, passphrase: str | None = None) -> str:
    """Writes a new private key to ``path`` and returns its public key in base64.

    The file is made exclusively, with mode 0600; folders that are missing get mode 0700. Raises Conflict when something is there already.
    """
    key = Ed25519PrivateKey.generate()
    protection: KeySerializationEncryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    private_folder(path.parent)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE)
    except FileExistsError:
        raise Conflict(f"a key file {path.name} exists already", "use that key, or choose another file") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        flush(file)
    return public_key(key)


def load_key(path: Path, passphrase: str | None = None) -> PrivateKey:
    """The private key at ``path``.

    Raises NotFound, Forbidden (others may read the file, or this user may not), Unauthenticated (the
    passphrase is missing or wrong), Corrupt (not an Ed25519 key in PEM form).
    """
    # The bytes of a file that nobody else can read.
    try:
        mode, data = _read(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFound(f"there is no key file {path}", "name the key file with --key, or make an identity", code="key_missing") from None
    except PermissionError:
        raise Forbidden(f"the key file {path.name} cannot be read by this user", "act as its owner") from None
    if mode & EVERYBODY_ELSE:
        raise Forbidden(f"the key file {path.name} is open to others (mode {mode:04o})", f"close it: chmod 600 {path}")
    return _parse(path, data, passphrase)


def _parse(path: Path, pem: bytes, passphrase: str | None) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError:
        raise _passphrase_error(path, passphrase) from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase and b"ENCRYPTED" in pem:
            raise _passphrase_error(path, passphrase) from None
        raise _not_a_key(path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _not_a_key(path)
    return key


def examine_key(path: Path) -> str | None:
    """The public key (base64) of the key at ``path`` without a passphrase, whoever may read it; empty where this user may not, None for one
    under a passphrase, and for what is no key."""
    try:
        return public_key(_parse(path, _read(path)[1], None))
    except PermissionError:
        return ""
    except (OSError, Unauthenticated, Corrupt):
        return None


def public_key(key: PrivateKey) -> str:
    """The raw public key in standard base64 (44 characters), as identities carry it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def fingerprint(public: str) -> str:
    """A public key (base64) in a form that people compare: the first 128 bits of its SHA-256, in hex, by fours."""
    told = hashlib.sha256(public.encode()).hexdigest()[:32]
    return "-".join(told[start : start + 4] for start in range(0, len(told), 4))


def check_public_key(text: str) -> None:
    """Raises InvalidInput unless ``text`` is the canonical spelling of a public key that only its holder can sign for."""
    try:
        raw = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, binascii.Error):
        raise _no_public_key() from None
    if base64.b64encode(raw).decode() != text or raw[:31] + bytes([raw[31] & 0x7F]) in _SMALL_ORDER:
        raise _no_public_key()


def check_key(key: PrivateKey, identity: Identity) -> None:
    """Raises Forbidden unless ``key`` is the one registered for ``identity``."""
    if public_key(key) != identity.public_key:
        raise Forbidden(
            f"this key is not the key of {identity.name}",
            f"act with the key file that was made for {identity.name}, or act as the identity that the key belongs to",
        )


#: Encodings of the points of small order (the sign bit cleared): signatures by such a "key" verify for any message (Chalkias et al. 2020).
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def _no_public_key() -> InvalidInput:
    return InvalidInput(
        "this is no public key of an identity", "send the raw Ed25519 key in base64, as identity list shows it", code="public_key"
    )


def _read(path: Path) -> tuple[int, bytes]:
    """Mode and bytes of a file, both of the opened file itself."""
    with path.open("rb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read()


def _passphrase_error(path: Path, passphrase: str | None) -> Unauthenticated:
    what = "does not open with this passphrase" if passphrase else "is protected by a passphrase"
    return Unauthenticated(f"the key file {path.name} {what}", "give the passphrase it was made with")


def _not_a_key(path: Path) -> Corrupt:
    return Corrupt(
        f"the key file {path.name} does not hold an Ed25519 private key",
        "restore it from a backup, or make a new identity",
    )


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
            )
        if number not in self._keys:
            self._take()
        if number not in self._keys:
            raise Forbidden(
                f"{self._name} does not hold the key that wrapped this tenant's: {number[:8]} is needed",
                "put the former key back, on a line after the newest",
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
            raise Forbidden(f"the key file {place} is open to others", f"close it: chmod 400 {place}")
        text = place.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise NotFound(
            f"the key file {place} is not there, and without it nothing that is encrypted can be read",
            "put it back from where you keep a copy; a new key opens nothing",
            code="workspace_key_missing",
        ) from None
    except OSError as error:
        hint = "give this user the right to read it"
        raise Forbidden(f"the key file {place} cannot be read: {error.strerror}", hint) from error
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
        raise Conflict(f"there is a key file {place} already", "it is never replaced: move it away first") from None
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
        raise InvalidInput(f"{where} holds no keys", f"one a line, newest first: {KEY} random bytes in URL-safe base64")
    return keys


def _id_of(key: bytes) -> str:
    """What a key is known by, without giving anything of it away."""
    return HKDF(SHA256(), 8, None, b"tailorbird workspace key id").derive(key).hex()
