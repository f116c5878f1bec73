"""Authenticated encryption of files of any size, in chunks whose order and end are authenticated, too (STREAM over AES-256-GCM).

    header   magic (8) | salt (32) | check (16) | label, encrypted (48)
    chunks   each 256 KiB of plaintext and a tag of 16 bytes; the last may be shorter, and there always is one

Key and check are HKDF-SHA256 of the caller's key, with the salt, and with the ``context`` as info: a file that was moved to another name,
or to another tenant, is refused by its header. The nonce of a chunk is its number (11 bytes) and a byte that says whether it is the last:
chunks cannot be dropped, repeated, exchanged or cut off (Hoang, Reyhanitabar, Rogaway and Vizár 2015, "Online Authenticated-Encryption
and its Nonce-Reuse Misuse-Resistance"). A salt of 32 random bytes gives each file a key of its own, which no nonce repeats under.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import secrets
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tailorbird.domain.errors import Corrupt
from tailorbird.domain.identity import DataKey

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def reader_of(pieces: Iterable[bytes | memoryview], buffer: int, closes: IO[bytes] | None = None) -> IO[bytes]:
    """A file that reads ``pieces`` one after another, ``buffer`` bytes at a time; closing it closes ``closes``, too."""
    return cast(IO[bytes], io.BufferedReader(_Pieces(pieces, closes), buffer))


class _Pieces(io.RawIOBase):
    """Reads the pieces of an iterator one after another."""

    def __init__(self, pieces: Iterable[bytes | memoryview], closes: IO[bytes] | None) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._closes = closes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Bytes put into ``buffer``; 0 at the end."""
        while not self._piece:
            if (piece := next(self._pieces, None)) is None:
                return 0
            self._piece = memoryview(piece)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._piece))
        target[:count], self._piece = self._piece[:count], self._piece[count:]
        return count

    def close(self) -> None:
        if self._closes is not None:
            self._closes.close()
        super().close()


#: Bytes of plaintext in a chunk, of its tag, of a key, of a label, and of the header.
CHUNK, TAG, KEY, LABEL = 1 << 18, 16, 32, 32
_MAGIC, _SALT, _CHECK = b"TBSEAL1\n", 32, 16
HEADER = len(_MAGIC) + _SALT + _CHECK + LABEL + TAG
_MIDDLE, _LAST, _OF_LABEL = b"\x00", b"\x01", b"\x02"
_NO_LABEL = bytes(LABEL)


def sealed_size(size: int) -> int:
    """Bytes of the sealed form of ``size`` bytes."""
    return HEADER + size + TAG * max(1, -(-size // CHUNK))


def plain_size(size: int) -> int:
    """Bytes of plaintext in ``size`` sealed bytes; a negative number where no sealed file has that size."""
    body = size - HEADER
    plain = body - TAG * max(1, -(-body // (CHUNK + TAG)))
    return plain if plain >= 0 and sealed_size(plain) == size else -1


def sealing(source: IO[bytes], key: bytes, context: bytes, label: bytes = _NO_LABEL) -> IO[bytes]:
    """The sealed form of the rest of ``source``, as a stream; ``label`` (32 bytes) can be read without the rest."""
    return reader_of(sealed_pieces(source, key, context, label), CHUNK)


def unsealing(source: IO[bytes], key: bytes, context: bytes) -> IO[bytes]:
    """The plaintext of a sealed stream, as a stream that closes ``source``. Its end is reached only where nothing is missing.

    Reading raises Corrupt: another key or context, changed or missing bytes.
    """
    return reader_of(_plain(source, key, context), CHUNK, source)


def read_label(source: IO[bytes], key: bytes, context: bytes) -> bytes:
    """The label of a sealed stream. Raises Corrupt."""
    return _opened(_exactly(source, HEADER), key, context)[1]


def seal_bytes(data: bytes, key: bytes, context: bytes) -> bytes:
    """``data`` sealed as one piece: a salt of 32 bytes, the ciphertext, a tag."""
    salt = secrets.token_bytes(_SALT)
    return salt + AESGCM(_derived(key, salt, context)[0]).encrypt(_nonce(0, _LAST), data, None)


def unseal_bytes(sealed: bytes, key: bytes, context: bytes) -> bytes:
    """What ``seal_bytes`` was given. Raises Corrupt."""
    if len(sealed) < _SALT + TAG:
        raise _truncated()
    try:
        return AESGCM(_derived(key, sealed[:_SALT], context)[0]).decrypt(_nonce(0, _LAST), sealed[_SALT:], None)
    except InvalidTag:
        raise _changed() from None


def sealed_pieces(source: IO[bytes], key: bytes, context: bytes, label: bytes = _NO_LABEL) -> Iterator[bytes | memoryview]:
    """As ``sealing``, in pieces, each of which is overwritten by the next: buffers are used again, since memory that is asked for anew is
    cleared by the system first, which takes longer than the encryption (seen: 4 seconds of 6 for 1.6 GB)."""
    salt = secrets.token_bytes(_SALT)
    file_key, check = _derived(key, salt, context)
    cipher = AESGCM(file_key)
    yield _MAGIC + salt + check + cipher.encrypt(_nonce(0, _OF_LABEL), label, None)
    number, chunk, ahead, sealed = 0, memoryview(bytearray(CHUNK)), memoryview(bytearray(CHUNK)), memoryview(bytearray(CHUNK + TAG))
    size = _fill(source, chunk)
    while True:
        following = _fill(source, ahead) if size == CHUNK else 0
        cipher.encrypt_into(_nonce(number, _MIDDLE if following else _LAST), chunk[:size], None, sealed[: size + TAG])
        yield sealed[: size + TAG]
        if not following:
            return
        number, size, chunk, ahead = number + 1, following, ahead, chunk


def _plain(source: IO[bytes], key: bytes, context: bytes) -> Iterator[memoryview]:
    cipher, _ = _opened(_exactly(source, HEADER), key, context)
    number, chunk, ahead, plain = 0, memoryview(bytearray(CHUNK + TAG)), memoryview(bytearray(CHUNK + TAG)), memoryview(bytearray(CHUNK))
    size = _fill(source, chunk)
    while True:
        following = _fill(source, ahead) if size == CHUNK + TAG else 0
        yield _decrypted(cipher, number, chunk[:size], plain, last=not following)
        if not following:
            return
        number, size, chunk, ahead = number + 1, following, ahead, chunk


def _opened(header: bytes, key: bytes, context: bytes) -> tuple[AESGCM, bytes]:
    """The cipher of a file, and its label."""
    if len(header) < HEADER:
        raise _truncated()
    if not header.startswith(_MAGIC):
        raise _changed()
    salt, rest = header[len(_MAGIC) : len(_MAGIC) + _SALT], header[len(_MAGIC) + _SALT :]
    file_key, check = _derived(key, salt, context)
    if not hmac.compare_digest(check, rest[:_CHECK]):
        raise Corrupt(
            "an encrypted file does not belong to this key and this name",
            "it was changed, or moved from another name, tenant or workspace: restore it from a backup",
        )
    cipher = AESGCM(file_key)
    try:
        return cipher, cipher.decrypt(_nonce(0, _OF_LABEL), rest[_CHECK:], None)
    except InvalidTag:
        raise _changed() from None


def _decrypted(cipher: AESGCM, number: int, chunk: memoryview, plain: memoryview, *, last: bool) -> memoryview:
    """The plaintext of a chunk, in ``plain``."""
    if len(chunk) < TAG:
        raise _truncated()
    try:
        cipher.decrypt_into(_nonce(number, _LAST if last else _MIDDLE), chunk, None, plain[: len(chunk) - TAG])
    except InvalidTag:
        raise _changed() from None
    return plain[: len(chunk) - TAG]


def _derived(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes]:
    """The key of one file, and what its header must say of it."""
    made = HKDF(SHA256(), KEY + _CHECK, salt, b"tailorbird sealed 1\x00" + context).derive(key)
    return made[:KEY], made[KEY:]


def _nonce(number: int, kind: bytes) -> bytes:
    return number.to_bytes(11, "big") + kind


def _fill(source: IO[bytes], buffer: memoryview) -> int:
    """Fills ``buffer`` from ``source``, which may give less at once than it is asked for. Bytes that were read, fewer only at the end."""
    filled = 0
    while filled < len(buffer) and (count := source.readinto(buffer[filled:])):  # type: ignore[attr-defined]
        filled += count
    return filled


def _exactly(source: IO[bytes], size: int) -> bytes:
    """``size`` bytes, or fewer at the end: a stream may give less at once than it is asked for."""
    piece = source.read(size)
    if len(piece) == size or not piece:
        return piece
    pieces, left = [piece], size - len(piece)
    while left and (piece := source.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _changed() -> Corrupt:
    return Corrupt("an encrypted file was changed", "restore it from a backup, or delete it and make it again")


def _truncated() -> Corrupt:
    return Corrupt("an encrypted file was cut off", "restore it from a backup, or delete it and make it again")


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
