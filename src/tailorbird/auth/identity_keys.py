"""Ed25519 keys of identities, in files that only their owner can read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, Unauthenticated
from tailorbird.domain.identity import Identity
from tailorbird.system.files import EVERYBODY_ELSE, OWNER_FILE, flush, private_folder

PrivateKey: TypeAlias = Ed25519PrivateKey


def create_key(path: Path, passphrase: str | None = None) -> str:
    """Writes a new private key to ``path`` and returns its public key in base64.

    The file is made exclusively, with mode 0600; folders that are missing get mode 0700. Raises Conflict when something is there already.
    """
    key = Ed25519PrivateKey.generate()
    protection: KeySerializationEncryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    private_folder(path.parent)
    _write_exclusively(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return public_key(key)


def load_key(path: Path, passphrase: str | None = None) -> PrivateKey:
    """The private key at ``path``.

    Raises NotFound, Forbidden (others may read the file: ``key_readable``; this user may not: ``key_unreadable``), Unauthenticated (the
    passphrase is missing or wrong), Corrupt (not an Ed25519 key in PEM form).
    """
    return _parse(path, _read_private(path), passphrase)


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


@dataclass(frozen=True)
class KeyFile:
    """A private key without a passphrase in a file. ``public_key`` is empty where this user may not read it; ``is_open``: others may."""

    public_key: str
    is_open: bool = False


def examine_key(path: Path) -> KeyFile | None:
    """The key at ``path``, whoever may read it; None for one under a passphrase, and for what is no key."""
    try:
        mode, pem = _read(path)
        key = _parse(path, pem, None)
    except PermissionError:
        return KeyFile("")
    except (OSError, Unauthenticated, Corrupt):
        return None
    return KeyFile(public_key(key), bool(mode & EVERYBODY_ELSE))


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
            code="key_mismatch",
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


def _write_exclusively(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE)
    except FileExistsError:
        raise Conflict(f"a key file {path.name} exists already", "use that key, or choose another file", code="key_exists") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        flush(file)


def _read(path: Path) -> tuple[int, bytes]:
    """Mode and bytes of a file, both of the opened file itself."""
    with path.open("rb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read()


def _read_private(path: Path) -> bytes:
    """The bytes of a file that nobody else can read."""
    try:
        mode, data = _read(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFound(f"there is no key file {path}", "name the key file with --key, or make an identity", code="key_missing") from None
    except PermissionError:
        raise Forbidden(f"the key file {path.name} cannot be read by this user", "act as its owner", code="key_unreadable") from None
    if mode & EVERYBODY_ELSE:
        raise Forbidden(f"the key file {path.name} is open to others (mode {mode:04o})", f"close it: chmod 600 {path}", code="key_readable")
    return data


def _passphrase_error(path: Path, passphrase: str | None) -> Unauthenticated:
    what = "does not open with this passphrase" if passphrase else "is protected by a passphrase"
    return Unauthenticated(f"the key file {path.name} {what}", "give the passphrase it was made with", code="passphrase_wrong")


def _not_a_key(path: Path) -> Corrupt:
    return Corrupt(
        f"the key file {path.name} does not hold an Ed25519 private key",
        "restore it from a backup, or make a new identity",
        code="key_invalid",
    )
