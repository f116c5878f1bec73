"""The tamper-evident log, checked and signed.

In: the ledger. Out: an audit report; a signed checkpoint. Must not know: how the tree is stored, how checkpoints leave the machine
(``shipping.py``).
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import IO

from tailorbird import access
from tailorbird.access import Action
from tailorbird.domain.errors import Conflict, Corrupt, NotFound, TailorbirdError
from tailorbird.domain.event import AuditReport, Checkpoint
from tailorbird.domain.value import Value
from tailorbird.foundations.auditlog import check_entries
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.lifecycle.upkeep import shipping
from tailorbird.ports.events import EventLog

ORIGIN = "tailorbird/log"


class Inclusion(Value):
    """That the entry ``index`` is in the tree of ``size`` with this ``root``: RFC 6962 audit path from ``leaf_hash`` upwards, in hex."""

    index: int
    size: int
    leaf_hash: str
    root: str
    path: tuple[str, ...]


class Consistency(Value):
    """That the tree of size ``first`` is a beginning of the tree of size ``second``: the RFC 6962 proof, in hex."""

    first: int
    second: int
    first_root: str
    second_root: str
    path: tuple[str, ...]


def log_key(parts: Parts) -> access.PrivateKey:
    """The key with which checkpoints are signed; made at first use. Raises NotFound where a log that was signed elsewhere lacks its key."""
    path = parts.workspace / "keys" / "log.key"
    if not path.exists():
        with parts.ledger.system(write=False) as system:
            if system.events.checkpoints():
                raise NotFound(
                    "the key that signs this log's checkpoints is not here",
                    f"copy keys/log.key from the machine that signs, to {path}",
                    code="log_key_missing",
                )
        with suppress(Conflict):  # another process was first
            access.create_key(path)
    return access.load_key(path)


def log_public_key(parts: Parts) -> str:
    """The key that checks checkpoints, in base64: that of ``log.key``, or what a restored workspace has in its place. Raises NotFound."""
    public = parts.workspace / "keys" / "log.pub"
    if not (parts.workspace / "keys" / "log.key").exists() and public.is_file():
        return public.read_text(encoding="ascii").strip()
    return access.public_key(log_key(parts))


def make_checkpoint(parts: Parts, actor: Actor) -> Checkpoint:
    """Signs the log's present size and root, stores the note, and ships it where the settings say."""
    permit(parts, actor, Action.CHECKPOINT)
    return _sign_head(parts)


def keep_signed(parts: Parts) -> Checkpoint | None:
    """Makes a checkpoint when the log grew and the last one is an interval old; else ships what a place still lacks."""
    with parts.ledger.system(write=False) as system:
        size, checkpoints = system.events.size(), system.events.checkpoints()
    newest = checkpoints[-1] if checkpoints else None
    if newest is None or (newest.size < size and newest.at <= parts.clock.now() - 0.9 * parts.upkeep.checkpoint_every):
        return _sign_head(parts)
    if shipping.is_owed(parts, newest):
        shipping.ship(parts, newest)
    return None


def _sign_head(parts: Parts) -> Checkpoint:
    key = log_key(parts)
    with parts.ledger.system() as system:
        checkpoint = access.make_checkpoint(ORIGIN, system.events.size(), system.events.root(), key, parts.clock.now())
        system.events.add_checkpoint(checkpoint)
    shipping.ship(parts, checkpoint)
    return checkpoint


def verify_log(parts: Parts, actor: Actor) -> AuditReport:
    """Recomputes every leaf and the root, and checks every checkpoint's signature, root and consistency."""
    permit(parts, actor, Action.VERIFY_AUDIT)
    return check_log(parts).model_copy(update={"warnings": tuple(notice.text for notice in shipping.notices(parts))})


def check_log(parts: Parts) -> AuditReport:
    """The same for whoever is entitled already."""
    with parts.ledger.system(write=False) as system:
        size, root = system.events.size(), system.events.root()
        checkpoints = system.events.checkpoints()
        problems = _bad_entries(system.events, checkpoints, size, root)
    problems += tuple(_bad_notes(parts, checkpoints))
    return AuditReport(size=size, root=root, checkpoints=len(checkpoints), problems=problems)


def prove_inclusion(parts: Parts, index: int, size: int | None) -> Inclusion:
    """The proof for an entry. Raises InvalidInput for what is not in the log."""
    with parts.ledger.system(write=False) as system:
        events = system.events
        whole = size or events.size()
        path = events.inclusion(index, whole)
        entry = next(iter(events.entries(index, index + 1)))
        return Inclusion(index=index, size=whole, leaf_hash=entry.leaf_hash, root=events.root_at(whole), path=path)


def prove_consistency(parts: Parts, first: int, second: int | None) -> Consistency:
    """The proof for two sizes. Raises InvalidInput for sizes the log never had."""
    with parts.ledger.system(write=False) as system:
        events = system.events
        whole = second or events.size()
        path = events.consistency(first, whole)
        return Consistency(first=first, second=whole, first_root=events.root_at(first), second_root=events.root_at(whole), path=path)


def export_log(parts: Parts, actor: Actor, target: IO[str]) -> int:
    """Writes every entry of every tenant, a JSON object a line: ``index``, ``leaf_hash``, and ``body``, the text that the hash covers.

    Whoever holds checkpoints can check the file without tailorbird. Returns how many there are. Raises Forbidden.
    """
    permit(parts, actor, Action.BACK_UP)
    count = 0
    with parts.ledger.system(write=False) as system:
        for entry in system.events.entries():
            line = {"index": entry.index, "leaf_hash": entry.leaf_hash, "body": entry.body}
            target.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _bad_entries(log: EventLog, checkpoints: tuple[Checkpoint, ...], size: int, root: str) -> tuple[str, ...]:
    """What the recomputation finds; an entry that cannot even be read ends it."""
    try:
        return check_entries(log.entries(), checkpoints, size=size, root=root)
    except Corrupt as error:
        return (error.message,)


def _bad_notes(parts: Parts, checkpoints: tuple[Checkpoint, ...]) -> list[str]:
    if not checkpoints:
        return []
    try:
        public = log_public_key(parts)
    except TailorbirdError as error:
        return [f"no signature of {len(checkpoints)} checkpoints could be checked: {error.message}"]
    problems = []
    for checkpoint in checkpoints:
        try:
            access.check_note(checkpoint, public)
        except TailorbirdError as error:
            problems.append(f"checkpoint at size {checkpoint.size}: {error.message}")
    return problems
