"""Seal of the event log's head, by the key that signs its checkpoints and lies beside the database, not in it.

Whoever can only write to the database cannot make one: an entry that somebody else appended, or a head that was put back by hand, is told.
That anything was ever sealed from a workspace stands in a file of the workspace, so that taking the seal away is told too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock

from tailorbird.auth.identity_keys import PrivateKey, create_key, load_key, public_key
from tailorbird.auth.signing import sign, signed_bytes
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.log_verification import ED25519, check_note, checkpoint_text, is_signed, key_hash
from tailorbird.domain.errors import Conflict, Corrupt, InvalidInput, NotFound
from tailorbird.domain.event import Checkpoint, LogEntry, LogHead
from tailorbird.system.files import OWNER_FILE


class KeyFileSealer:
    """Seals the ledger's log with the files ``keys/log.key``, ``keys/log.pub`` and ``log.sealed`` of a workspace."""

    def __init__(self, workspace: Path) -> None:
        self._private = workspace / "keys" / "log.key"
        self._public = workspace / "keys" / "log.pub"
        self._marker = workspace / "log.sealed"
        self._former = former_key_file(workspace)
        self._loaded: tuple[tuple[int, int], PrivateKey] | None = None
        self._seen: LogHead | None = None
        self._lock = Lock()
        self._marked = False

    def seal(self, head: LogHead, *, was_sealed: bool, is_new: bool) -> str:
        """The signature over the head. Raises NotFound (``log_key_missing``) where the head was sealed and the key is not here."""
        key = self._key()
        if key is None and is_new and not self._public.exists():
            with suppress(Conflict):  # another process was first
                create_key(self._private)
            key = self._key()
        if key is None:
            if was_sealed:
                raise self._missing()
            return ""
        return base64.b64encode(key.sign(head.statement())).decode()

    def check(self, head: LogHead, seal: str) -> None:
        """Returns where the seal over a committed head is this log's, or nothing was ever sealed from here. Raises Corrupt, NotFound."""
        if not seal:
            if self._marker.exists():
                raise _broken("the head of the log is not sealed, and it was before", "log_unsealed")
            return
        key = self._key()
        public = public_key(key) if key else self._public.read_text(encoding="ascii").strip() if self._public.is_file() else None
        if public is None:
            raise self._missing()
        if is_signed(head.statement(), seal, public):
            self._mark()
            return
        if self._former.is_file() and is_signed(head.statement(), seal, self._former.read_text(encoding="ascii").strip()):
            return  # the key is being changed: the next entry is sealed by the new one
        raise _broken("the head of the log is not sealed by the key of this log", "log_forged")

    def check_growth(self, head: LogHead) -> None:
        """Raises Corrupt where this process has committed a longer log, or another of the same size."""
        seen = self._seen
        if seen is not None and (head.size < seen.size or (head.size == seen.size and head != seen)):
            raise _broken(f"the log had {seen.size} entries and now has {head.size}, or others", "log_rolled_back")

    def remember(self, head: LogHead) -> None:
        """Keeps a committed head; of two that commit at once, the longer."""
        with self._lock:
            if self._seen is None or head.size > self._seen.size:
                self._seen = head

    def _mark(self) -> None:
        """Notes that the log is sealed."""
        if not self._marked:
            with suppress(OSError):  # a workspace that cannot be written now
                self._marker.touch(mode=OWNER_FILE)
                self._marked = True

    def _key(self) -> PrivateKey | None:
        """The private key, read again when its file changes; None where it is not here."""
        try:
            found = self._private.stat()
        except FileNotFoundError:
            return None
        version = (found.st_ino, found.st_mtime_ns)
        if self._loaded is None or self._loaded[0] != version:
            self._loaded = version, load_key(self._private)
        return self._loaded[1]

    def _missing(self) -> NotFound:
        return NotFound(
            "the key that seals this log is not here",
            f"copy keys/log.key from the machine that made it, to {self._private}; whoever only reads needs keys/log.pub alone",
            code="log_key_missing",
        )


def former_key_file(workspace: Path) -> Path:
    """Where the public key of before stands between a change of the key and the first seal by the new one."""
    return workspace / "keys" / "log.former.pub"


def public_of_log(workspace: Path) -> str:
    """The public key (base64) of the log of a workspace. Raises NotFound where neither half is here."""
    private, public = workspace / "keys" / "log.key", workspace / "keys" / "log.pub"
    if private.exists():
        return public_key(load_key(private))
    if public.is_file():
        return public.read_text(encoding="ascii").strip()
    raise NotFound("the key of this log is not here", f"copy keys/log.pub to {public}", code="log_key_missing")


def _broken(what: str, code: str) -> Corrupt:
    return Corrupt(what, "somebody changed the database outside tailorbird: run tailorbird audit verify, and restore a backup", code=code)


#: The event of a change, and who signs it in the name of the log.
ROTATED, _PURPOSE, _NAME = "log.key_rotated", "log-key", "log"


@dataclass(frozen=True)
class LogKey:
    """A public key (base64) of the log, and the size up to which it signs: None for the present one."""

    public: str
    until: int | None


def rotation_facts(former: PrivateKey, key: PrivateKey, at: datetime) -> dict[str, str | int | float | bool | None]:
    """What the event of a change says: both keys, and the signature of each over the change."""
    change = {"former": public_key(former), "public": public_key(key)}
    signatures = {
        "signed_by_former": sign(former, _NAME, _PURPOSE, digest_of({**change}), at).signature,
        "signed_by_new": sign(key, _NAME, _PURPOSE, digest_of({**change}), at).signature,
    }
    return {**change, **signatures}


def keys_of_log(present: str, entries: Iterable[LogEntry]) -> tuple[LogKey, ...]:
    """The present key and those of before, newest first, as far as signed changes among ``entries`` lead back from it."""
    keys = [LogKey(present, None)]
    for entry in sorted(entries, key=lambda entry: -entry.index):
        data = entry.event.data
        former, public = str(data.get("former", "")), str(data.get("public", ""))
        if entry.event.kind != ROTATED or public != keys[-1].public:
            continue
        message = signed_bytes(_PURPOSE, digest_of({"former": former, "public": public}))
        if is_signed(message, str(data.get("signed_by_former")), former) and is_signed(message, str(data.get("signed_by_new")), public):
            keys.append(LogKey(former, entry.index))
    return tuple(keys)


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
        )
    text = checkpoint_text(origin, size, root_hex)
    blob = key_hash(origin, public_key(key)) + key.sign(text.encode())
    return Checkpoint(origin=origin, size=size, root=root_hex, note=f"{text}\n— {origin} {base64.b64encode(blob).decode()}\n", at=at)


def verifier_key(origin: str, public: str) -> str:
    """Verifier key in the form of other logs: ``<name>+<key hash in hex>+<base64(0x01 ‖ public key)>``."""
    return f"{origin}+{key_hash(origin, public).hex()}+{base64.b64encode(ED25519 + base64.b64decode(public)).decode()}"
