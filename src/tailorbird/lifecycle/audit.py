"""The tamper-evident log, checked and signed.

In: the ledger. Out: an audit report; a signed checkpoint. Must not know: how the tree is stored.
"""

from __future__ import annotations

import json
from typing import IO

from tailorbird import access
from tailorbird.access import Action
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.event import AuditReport, Checkpoint
from tailorbird.domain.value import Value
from tailorbird.foundations.auditlog import check_entries
from tailorbird.foundations.canonical import canonical_json
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.parts import Actor, Parts
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
    """The workspace's own key, with which checkpoints are signed; made at first use."""
    path = parts.workspace / "keys" / "log.key"
    try:
        return access.load_key(path)
    except NotFound:
        access.create_key(path)
        return access.load_key(path)


def make_checkpoint(parts: Parts, actor: Actor) -> Checkpoint:
    """Signs the log's present size and root, and stores the note."""
    permit(parts, actor, Action.CHECKPOINT)
    key = log_key(parts)
    with parts.ledger.system() as system:
        checkpoint = access.make_checkpoint(ORIGIN, system.events.size(), system.events.root(), key, parts.clock.now())
        system.events.add_checkpoint(checkpoint)
    return checkpoint


def verify_log(parts: Parts, actor: Actor) -> AuditReport:
    """Recomputes every leaf and the root, and checks every checkpoint's signature, root and consistency."""
    permit(parts, actor, Action.VERIFY_AUDIT)
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
            line = {"index": entry.index, "leaf_hash": entry.leaf_hash, "body": canonical_json(entry.event).decode()}
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
    public = access.public_key(log_key(parts))
    problems = []
    for checkpoint in checkpoints:
        try:
            access.check_note(checkpoint, public)
        except TailorbirdError as error:
            problems.append(f"checkpoint at size {checkpoint.size}: {error.message}")
    return problems
