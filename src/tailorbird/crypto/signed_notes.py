"""Checkpoints of a log as C2SP signed notes, which the tools of other logs can read.

The note reads: origin, size, base64 root, a blank line, and ``— <name> <base64(key hash ‖ signature)>``. The key hash is the first four
bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key), where the type 0x01 stands for Ed25519. What is signed is the text before the blank line,
its last line break included. Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tailorbird.domain.errors import Corrupt
from tailorbird.domain.event import Checkpoint


def is_signed(message: bytes, signature: str, public: str) -> bool:
    """True when ``signature`` (base64) over ``message`` verifies with the raw public key ``public`` (base64); never raises on bad input."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True))
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


ED25519 = b"\x01"
HASH_BYTES = 4
_ROOT_BYTES = 32
_ROOT = re.compile(r"[0-9a-f]{64}")
_NOTE = re.compile(r"(?P<origin>[^\s+]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n")
_SIGNATURE_LINE = re.compile(r"— (?P<name>[^\s+]+) (?P<blob>[A-Za-z0-9+/]+={0,2})")


def checkpoint_text(origin: str, size: int, root_hex: str) -> str:
    """What is signed of a checkpoint."""
    return f"{origin}\n{size}\n{base64.b64encode(bytes.fromhex(root_hex)).decode()}\n"


def key_hash(name: str, public: str) -> bytes:
    """Four-byte hash of the key in a signature line."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + base64.b64decode(public)).digest()[:HASH_BYTES]


def check_note(checkpoint: Checkpoint, public: str) -> None:
    """Checks that the note says what the checkpoint's fields say, and that the key ``public`` (base64) signed it.

    Lines of further signers may stand below ours. Raises Corrupt (``checkpoint_invalid``).
    """
    text = _text_of_note(checkpoint.note)
    if not _ROOT.fullmatch(checkpoint.root) or text != checkpoint_text(checkpoint.origin, checkpoint.size, checkpoint.root):
        raise _invalid("the note does not state the checkpoint's origin, size and root")
    ours = key_hash(checkpoint.origin, public)
    if not any(
        blob[:HASH_BYTES] == ours and is_signed(text.encode(), base64.b64encode(blob[HASH_BYTES:]).decode(), public)
        for name, blob in _signature_lines(checkpoint.note)
        if name == checkpoint.origin
    ):
        raise _invalid("the note is not signed by the key of this log")


def read_note(note: str, at: datetime) -> Checkpoint:
    """What a signed note states; nothing of its signatures is checked. Raises Corrupt (``checkpoint_invalid``)."""
    found = _NOTE.fullmatch(_text_of_note(note))
    try:
        root = base64.b64decode(found["root"], validate=True) if found else b""
    except binascii.Error:
        root = b""
    if found is None or len(root) != _ROOT_BYTES:
        raise _invalid("this is no checkpoint of a log")
    return Checkpoint(origin=found["origin"], size=int(found["size"]), root=root.hex(), note=note, at=at)


def _text_of_note(note: str) -> str:
    """What is signed of a note: all before the blank line. Raises Corrupt."""
    text, blank, _ = note.rpartition("\n\n")
    if not blank:
        raise _invalid("the note does not state the checkpoint's origin, size and root")
    return f"{text}\n"


def _signature_lines(note: str) -> list[tuple[str, bytes]]:
    """Name and decoded blob of each signature line of a note. Raises Corrupt when a line is not one."""
    block = note.rpartition("\n\n")[2]
    if not block.endswith("\n"):
        raise _invalid("the note ends inside a line")
    found = []
    for line in block[:-1].split("\n"):
        match = _SIGNATURE_LINE.fullmatch(line)
        if match is None:
            raise _invalid("a line below the note is not a signature")
        try:
            found.append((match["name"], base64.b64decode(match["blob"], validate=True)))
        except binascii.Error:
            raise _invalid("a signature below the note is not base64") from None
    return found


def _invalid(what: str) -> Corrupt:
    return Corrupt(what, "compare with a copy of the note that was kept off this machine", code="checkpoint_invalid")
