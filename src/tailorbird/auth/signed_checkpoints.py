"""Signed checkpoints of the event log, as C2SP signed notes that independent witnesses can read.

The note reads: origin, size, base64 root, a blank line, and ``— <name> <base64(key hash ‖ signature)>``. The key hash is the first four
bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key), where 0x01 stands for Ed25519. What is signed is the text before the blank line, its
last line break included. Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime

from tailorbird.auth.identity_keys import PrivateKey, public_key
from tailorbird.auth.signing import is_signed
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import Checkpoint

_ED25519 = b"\x01"
_HASH_BYTES = 4
_KEY_NAME = re.compile(r"[^\s+]+")
_ROOT = re.compile(r"[0-9a-f]{64}")
_SIGNATURE_LINE = re.compile(r"— (?P<name>[^\s+]+) (?P<blob>[A-Za-z0-9+/]+={0,2})")


def make_checkpoint(origin: str, size: int, root_hex: str, key: PrivateKey, at: datetime) -> Checkpoint:
    """The head (``size`` entries, Merkle root in hex) under the signature of ``key``, whose name in the note is ``origin``.

    Raises InvalidInput when ``origin`` is empty or holds white space or a plus sign, or when size or root are not a log's.
    """
    if not _KEY_NAME.fullmatch(origin) or size < 0 or not _ROOT.fullmatch(root_hex):
        raise InvalidInput(
            "a checkpoint needs a name without spaces or plus signs, a size and a SHA-256 root in hex",
            "sign the size and root that the log states",
            code="checkpoint_malformed",
        )
    text = _text(origin, size, root_hex)
    blob = key_hash(origin, public_key(key)) + key.sign(text.encode())
    return Checkpoint(origin=origin, size=size, root=root_hex, note=f"{text}\n— {origin} {base64.b64encode(blob).decode()}\n", at=at)


def check_note(checkpoint: Checkpoint, public: str) -> None:
    """Checks that the note says what the checkpoint's fields say, and that the key ``public`` (base64) signed it.

    Lines of further signers (witnesses) may stand below ours. Raises Corrupt (``checkpoint_invalid``).
    """
    text, blank, signatures = checkpoint.note.rpartition("\n\n")
    text += "\n"
    if not blank or not _ROOT.fullmatch(checkpoint.root) or text != _text(checkpoint.origin, checkpoint.size, checkpoint.root):
        raise _invalid("the note does not state the checkpoint's origin, size and root")
    ours = key_hash(checkpoint.origin, public)
    if not any(
        blob[:_HASH_BYTES] == ours and is_signed(text.encode(), base64.b64encode(blob[_HASH_BYTES:]).decode(), public)
        for name, blob in _signatures(signatures)
        if name == checkpoint.origin
    ):
        raise _invalid("the note is not signed by the key of this log")


def verifier_key(origin: str, public: str) -> str:
    """Verifier key in the form that witnesses take: ``<name>+<key hash in hex>+<base64(0x01 ‖ public key)>``."""
    return f"{origin}+{key_hash(origin, public).hex()}+{base64.b64encode(_ED25519 + base64.b64decode(public)).decode()}"


def key_hash(name: str, public: str) -> bytes:
    """Four-byte hash of the key in a signature line."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + base64.b64decode(public)).digest()[:_HASH_BYTES]


def _text(origin: str, size: int, root_hex: str) -> str:
    return f"{origin}\n{size}\n{base64.b64encode(bytes.fromhex(root_hex)).decode()}\n"


def _signatures(block: str) -> list[tuple[str, bytes]]:
    """Name and decoded blob of each signature line. Raises Corrupt when a line is not one."""
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
