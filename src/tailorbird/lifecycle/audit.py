"""The tamper-evident log, checked and signed.

In: the ledger. Out: an audit report; a signed checkpoint. Must not know: how the tree is stored.
"""

from __future__ import annotations

from tailorbird import access
from tailorbird.access import Action
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.event import AuditReport, Checkpoint
from tailorbird.foundations.auditlog import check_entries
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.ports.events import EventLog

ORIGIN = "tailorbird/log"


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
