"""Seal of the event log's head, by the key that signs its checkpoints and lies beside the database, not in it.

Whoever can only write to the database cannot make one: an entry that somebody else appended, or a head that was put back by hand, is told.
That anything was ever sealed from a workspace stands in a file of the workspace, so that taking the seal away is told too.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from pathlib import Path
from threading import Lock

from tailorbird.auth.identity_keys import PrivateKey, create_key, load_key, public_key
from tailorbird.crypto.ed25519 import is_signed
from tailorbird.domain.errors import Conflict, Corrupt, NotFound
from tailorbird.domain.event import LogHead
from tailorbird.system.files import OWNER_FILE


class KeyFileSealer:
    """Implements ``ports.events.LogSealer`` with the files ``keys/log.key``, ``keys/log.pub`` and ``log.sealed`` of a workspace."""

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
