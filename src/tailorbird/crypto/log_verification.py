"""Verification of the event log: every leaf and root recomputed, and its checkpoints as C2SP signed notes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tailorbird.crypto.anchored_rows import EVERY_ROW, place_of, root_over, row_text
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.crypto.merkle import Frontier, LeafSpan, inclusion_spans, leaf_hash, verify_inclusion
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import AnchoredRow, Checkpoint, Event, LogEntry, LogHead
from tailorbird.domain.value import Digest


def event_leaf(event: Event) -> bytes:
    """The leaf hash of an event: SHA-256(0x00 ‖ its RFC 8785 JSON)."""
    return leaf_hash(canonical_json(event))


def salted(event: Event) -> Event:
    """The event as it is appended, with a salt of its own."""
    return event.model_copy(update={"salt": secrets.token_hex(16)})


def event_of(body: str) -> Event:
    """The event that an entry's body holds, without its salt. Raises ValueError (pydantic's ValidationError)."""
    event = Event.model_validate_json(body)
    return event.model_copy(update={"salt": ""}) if event.salt else event


def event_body(event: Event) -> str:
    """The event's canonical JSON. Raises InvalidInput for a number that would not be read back as it was written (beyond ±2⁵³)."""
    try:
        body = canonical_json(event).decode()
        again = Event.model_validate_json(body)
        # A whole number is written without a point: 2.0**60 is read back as another kind of number, which has no such form.
        whole = any(isinstance(value, float) and value.is_integer() for value in event.data.values())
        exact = again == event and (not whole or canonical_json(again).decode() == body)
    except ValueError:
        exact = False
    if not exact:
        raise InvalidInput(f"a number of the event {event.kind} cannot be recorded exactly", "write large numbers as text")
    return body


def entry_leaf(entry: LogEntry) -> bytes:
    """The leaf hash that an entry ought to have: that of its stored body, where it has one (then its event was read from it)."""
    return leaf_hash(entry.body.encode()) if entry.body else event_leaf(entry.event)


def demand_included(entries: Sequence[LogEntry], head: LogHead, roots: Callable[[Sequence[LeafSpan]], Sequence[bytes]]) -> None:
    """Returns when each of ``entries`` is in the log whose head is given. ``roots`` looks the root over each span up, for all at once.

    Raises Corrupt: somebody has written an entry, or changed one.
    """
    paths = [inclusion_spans(entry.index, head.size) if entry.index < head.size else () for entry in entries]
    try:
        found = iter(roots([span for path in paths for span in path]))
    except (KeyError, ValueError):
        found = iter(())
    for entry, path in zip(entries, paths, strict=True):
        proof = tuple(islice(found, len(path)))
        if not verify_inclusion(entry_leaf(entry), entry.index, head.size, proof, bytes.fromhex(head.root)):
            raise Corrupt(
                f"entry {entry.index} of the event log is not what was written",
                "somebody changed the database outside tailorbird: restore it from a backup, then run tailorbird audit verify",
                code="log_corrupt",
            )


def check_entries(
    entries: Iterable[LogEntry], checkpoints: Sequence[Checkpoint], *, size: int | None = None, root: str | None = None
) -> tuple[str, ...]:
    """What is wrong with a log; empty exactly when it is intact. ``entries`` is the whole log, from index 0, and is read once, as a stream.

    Checks that indices have no gap, that each stored leaf hash is that of its body, and that the tree of each checkpoint's size has the
    checkpoint's root. ``size`` and ``root`` are what the log claims of itself (``EventLog.size``, ``.root``): they find entries that were
    cut off after the last checkpoint.
    """
    return tuple(_problems(entries, _expected(checkpoints, size, root)))


#: Size of a tree to the roots it should have, each with the name of who says so.
_Claims = dict[int, list[tuple[str, str]]]


def _expected(checkpoints: Sequence[Checkpoint], size: int | None, root: str | None) -> _Claims:
    claims: _Claims = defaultdict(list)
    for checkpoint in checkpoints:
        claims[checkpoint.size].append((checkpoint.root, f"the checkpoint at size {checkpoint.size}"))
    if size is not None and root is not None:
        claims[size].append((root, f"the log's own head at size {size}"))
    return claims


#: So many leaves are hashed into the tree at a time.
_LEAVES_AT_ONCE = 4096


def _problems(entries: Iterable[LogEntry], claims: _Claims) -> Iterator[str]:
    frontier, leaves, expected = Frontier(), list[bytes](), 0
    yield from _disagreements(frontier, claims)
    for entry in entries:
        if entry.index != expected:
            yield f"entry {expected} is missing: the next one found is {entry.index}"
        leaf = entry_leaf(entry)
        if leaf.hex() != entry.leaf_hash:
            yield f"entry {entry.index} was changed: its event does not have the stored leaf hash"
        leaves.append(leaf)
        expected = entry.index + 1
        if len(leaves) == _LEAVES_AT_ONCE or frontier.size + len(leaves) in claims:
            frontier, leaves = frontier.extend(leaves)[0], []
            yield from _disagreements(frontier, claims)
    size = frontier.size + len(leaves)
    for claimed in sorted(claims):
        if claimed > size:
            yield from (f"{who} covers entries that are gone: the log has {size}" for _, who in claims[claimed])


def _disagreements(frontier: Frontier, claims: _Claims) -> Iterator[str]:
    if frontier.size in claims:
        actual = frontier.root().hex()
        yield from (f"{who} does not match the entries: another root" for root, who in claims[frontier.size] if root != actual)


class LogReplay:
    """Takes entries in order. ``rows`` are the digests by tenant and name."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Digest]] = {}

    def take(self, entry: LogEntry) -> None:
        """Applies what an entry says of rows."""
        event = entry.event
        if not event.rows:
            return
        rows = self.rows.setdefault(event.tenant, {})
        if EVERY_ROW in event.rows:
            rows.clear()
        for name, digest in event.rows.items():
            if digest is not None:
                rows[name] = digest
            elif name != EVERY_ROW:
                rows.pop(name, None)

    def state(self) -> str:
        """The root over all rows, in hex."""
        return root_over({place_of(tenant, name): digest for tenant, rows in self.rows.items() for name, digest in rows.items()})

    def differing(self, tenant: str, found: Iterable[AnchoredRow], where: str) -> Iterator[str]:
        """What is wrong with the rows of a tenant as ``where`` holds them."""
        expected = dict(self.rows.get(tenant, {}))
        for row in found:
            told = expected.pop(row.name, None)
            if told is None:
                yield f"{where} of {tenant}: {row_text(row.name)} is there, and the log does not know it"
            elif told != row.digest:
                yield f"{where} of {tenant}: {row_text(row.name)} is not what the log says"
        yield from (f"{where} of {tenant}: {row_text(name)} is gone, and the log does not say so" for name in expected)


def head_problems(replay: LogReplay, head: LogHead) -> Iterator[str]:
    """What is wrong with the state that a head claims."""
    if replay.state() != head.state:
        yield "the head of the log stands for other rows than its entries anchor"


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
