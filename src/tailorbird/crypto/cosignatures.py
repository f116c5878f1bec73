"""Cosignatures of witnesses under a checkpoint, and the requests that ask for them.

A cosignature is a signature line whose key hash is made with the type 0x04, and whose signature is eight bytes of time (seconds since 1970,
big-endian) before an Ed25519 signature over ``cosignature/v1``, ``time N`` and the checkpoint's text. Sources:
https://c2sp.org/tlog-cosignature, https://c2sp.org/tlog-witness, https://c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tailorbird.crypto.ed25519 import is_signed, public_text
from tailorbird.crypto.signed_notes import key_hash, signature_lines, text_of_note
from tailorbird.domain.errors import Corrupt, InvalidInput

_COSIGNATURE = b"\x04"
_HASH_BYTES, _TIME_BYTES, _SIGNATURE_BYTES, _KEY_BYTES = 4, 8, 64, 32
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_MOST_HASHES = 63


class WitnessKey(NamedTuple):
    """A witness as its clients know it: name, and public key in base64."""

    name: str
    public: str


def witness_key(name: str, public: str) -> str:
    """The verifier key of a witness: ``<name>+<key hash in hex>+<base64(0x04 ‖ public key)>``."""
    return f"{name}+{_key_hash(name, public).hex()}+{base64.b64encode(_COSIGNATURE + base64.b64decode(public)).decode()}"


def read_witness_key(text: str) -> WitnessKey:
    """The witness whose verifier key this is. Raises InvalidInput."""
    name, _, rest = text.partition("+")
    told, _, blob = rest.partition("+")
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error:
        raw = b""
    public = base64.b64encode(raw[1:]).decode()
    if not name or len(raw) != 1 + _KEY_BYTES or raw[:1] != _COSIGNATURE or told != _key_hash(name, public).hex():
        raise InvalidInput("this is no key of a witness", "give name+hash+base64, as the witness publishes it", code="witness_key")
    return WitnessKey(name, public)


def cosign(note: str, name: str, key: Ed25519PrivateKey, at: datetime) -> str:
    """The signature line of a witness under ``note``. Raises Corrupt where that is no note."""
    moment = int(at.timestamp())
    signed = key.sign(_message(text_of_note(note), moment))
    blob = _key_hash(name, public_text(key)) + moment.to_bytes(_TIME_BYTES, "big") + signed
    return f"— {name} {base64.b64encode(blob).decode()}\n"


def cosignatures(note: str, witness: WitnessKey) -> Iterator[tuple[str, datetime]]:
    """Lines of ``note`` that the witness signed, each with its time; others are left out. Raises Corrupt where that is no note."""
    text, ours = text_of_note(note), _key_hash(witness.name, witness.public)
    for name, blob in signature_lines(note):
        head, moment, signed = blob[:_HASH_BYTES], blob[_HASH_BYTES : _HASH_BYTES + _TIME_BYTES], blob[_HASH_BYTES + _TIME_BYTES :]
        if name != witness.name or head != ours or len(signed) != _SIGNATURE_BYTES:
            continue
        seconds = int.from_bytes(moment, "big")
        if seconds < 1 << 40 and is_signed(_message(text, seconds), base64.b64encode(signed).decode(), witness.public):
            yield f"— {name} {base64.b64encode(blob).decode()}\n", datetime.fromtimestamp(seconds, UTC)


class AddCheckpoint(NamedTuple):
    """A request to cosign ``note``, with the consistency proof (hashes in hex) from the tree of ``old`` entries."""

    old: int
    proof: tuple[str, ...]
    note: str


def add_checkpoint_body(old: int, proof: Sequence[str], note: str) -> bytes:
    """The request as it is sent."""
    hashes = "".join(f"{base64.b64encode(bytes.fromhex(hashed)).decode()}\n" for hashed in proof)
    return f"old {old}\n{hashes}\n{note}".encode()


def read_add_checkpoint(body: bytes) -> AddCheckpoint:
    """The request in ``body``. Raises InvalidInput."""
    try:
        head, blank, note = body.decode().partition("\n\n")
        first, *hashes = head.split("\n")
        old = _OLD.fullmatch(first)
        proof = tuple(base64.b64decode(line, validate=True).hex() for line in hashes)
    except ValueError:
        raise _malformed() from None
    if old is None or not blank or len(proof) > _MOST_HASHES or any(len(hashed) != 2 * _KEY_BYTES for hashed in proof):
        raise _malformed()
    return AddCheckpoint(int(old[1]), proof, note)


def with_lines(note: str, lines: str, witness: WitnessKey) -> str:
    """``note`` with the witness's cosignatures out of ``lines``, what it answered. Raises Corrupt where none of them holds."""
    found = "".join(line for line, _ in cosignatures(note + lines, witness))
    if not found:
        raise Corrupt(
            f"the witness {witness.name} answered no cosignature that holds", "check the witness's key", code="cosignature_invalid"
        )
    return note + found


def _message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _key_hash(name: str, public: str) -> bytes:
    return key_hash(name, public, _COSIGNATURE)


def _malformed() -> InvalidInput:
    return InvalidInput("this is no request to add a checkpoint", "send what c2sp.org/tlog-witness says", code="checkpoint_request")
