"""Signed checkpoints of the event log: notes in the form of ``crypto/signed_notes.py``, under the log's own key."""

from __future__ import annotations

import base64
import re
from datetime import datetime

from tailorbird.auth.identity_keys import PrivateKey, public_key
from tailorbird.crypto.signed_notes import ED25519, check_note, checkpoint_text, key_hash
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.event import Checkpoint

__all__ = ["check_note", "key_hash", "make_checkpoint", "verifier_key"]

_KEY_NAME = re.compile(r"[^\s+]+")
_ROOT = re.compile(r"[0-9a-f]{64}")


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
    text = checkpoint_text(origin, size, root_hex)
    blob = key_hash(origin, public_key(key)) + key.sign(text.encode())
    return Checkpoint(origin=origin, size=size, root=root_hex, note=f"{text}\n— {origin} {base64.b64encode(blob).decode()}\n", at=at)


def verifier_key(origin: str, public: str) -> str:
    """Verifier key in the form of other logs: ``<name>+<key hash in hex>+<base64(0x01 ‖ public key)>``."""
    return f"{origin}+{key_hash(origin, public).hex()}+{base64.b64encode(ED25519 + base64.b64decode(public)).decode()}"
