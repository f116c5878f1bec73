"""Audit of the event log: verification, signed checkpoints, proofs, export."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Annotated

from pydantic import Field

from tailorbird import auth
from tailorbird.auth import Action
from tailorbird.crypto.log_verification import LogReplay, check_entries, head_problems
from tailorbird.crypto.signed_notes import read_note
from tailorbird.domain.errors import Conflict, Corrupt, NotFound, TailorbirdError
from tailorbird.domain.event import AnchoredRow, AuditReport, Checkpoint, LogEntry, is_begun_digest
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import SystemWork
from tailorbird.usecases.audit_events import permit, remarks
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance import checkpoint_shipping
from tailorbird.usecases.maintenance.checkpoint_shipping import demand_no_fork
from tailorbird.usecases.registry import PageSize, local, usecase

ORIGIN = "tailorbird/log"
Index = Annotated[int, Field(ge=0, lt=1 << 62)]
TreeSize = Annotated[int, Field(ge=1, lt=1 << 62)]
Notes = Annotated[tuple[Annotated[str, Field(max_length=8192)], ...], Field(max_length=500)]


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


def log_key(deps: Dependencies) -> auth.PrivateKey:
    """The key with which checkpoints are signed; made at first use. Raises NotFound where a log that was signed elsewhere lacks its key."""
    path = deps.workspace / "keys" / "log.key"
    if not path.exists():
        with deps.ledger.system(write=False) as system:
            if system.events.checkpoints():
                raise NotFound(
                    "the key that signs this log's checkpoints is not here",
                    f"copy keys/log.key from the machine that signs, to {path}",
                    code="log_key_missing",
                )
        with suppress(Conflict):  # another process was first
            auth.create_key(path)
    return auth.load_key(path)


def log_public_key(deps: Dependencies) -> str:
    """The key that checks checkpoints, in base64: that of ``log.key``, or what a restored workspace has in its place. Raises NotFound."""
    public = deps.workspace / "keys" / "log.pub"
    if not (deps.workspace / "keys" / "log.key").exists() and public.is_file():
        return public.read_text(encoding="ascii").strip()
    return auth.public_key(log_key(deps))


class LogPage(Value):
    """Entries of the tenant's, newest first, and the size of the whole log. ``remarks`` are the texts that entries name by digest, as far
    as they were not erased."""

    entries: tuple[LogEntry, ...]
    size: int
    remarks: dict[Digest, str] = Field(default_factory=dict)


@usecase("audit.log", "GET", "/api/audit/log", Action.VERIFY_AUDIT)
def read_log(
    deps: Dependencies, actor: Actor, limit: PageSize = 50, before: Index | None = None, subject: Annotated[str, Field(max_length=200)] = ""
) -> LogPage:
    """Read the log, newest first.

    ``limit`` entries before the index ``before``, about one ``subject`` or all; a digest may be cut short to six digits or more.
    """
    digest = f"sha256:{subject}"
    with deps.ledger.work(actor.tenant, write=False) as work:
        shown = work.events.latest(limit, before, subject)
        if not shown and is_begun_digest(digest):
            shown = work.events.latest(limit, before, digest)
        return LogPage(entries=shown, size=work.events.size(), remarks=remarks(work, shown))


@usecase("audit.checkpoint", "POST", "/api/audit/checkpoints", Action.CHECKPOINT)
def make_checkpoint(deps: Dependencies, actor: Actor) -> Checkpoint:
    """Sign the log's head.

    Its present size and root; the note is stored, and shipped where the settings say. Raises Conflict where the log does not continue
    what was shipped before.
    """
    permit(deps, actor, Action.CHECKPOINT)
    demand_no_fork(deps)
    return _sign_head(deps)


def keep_signed(deps: Dependencies) -> Checkpoint | None:
    """Makes a checkpoint when the log grew and the last one is an interval old; else ships what a place still lacks.

    A log that does not continue what was shipped is told of and not signed.
    """
    if checkpoint_shipping.alarm_forks(deps):
        return None
    with deps.ledger.system(write=False) as system:
        size, checkpoints = system.events.size(), system.events.checkpoints()
    newest = checkpoints[-1] if checkpoints else None
    if newest is None or (newest.size < size and newest.at <= deps.clock.now() - 0.9 * deps.upkeep.checkpoint_every):
        return _sign_head(deps)
    if checkpoint_shipping.is_owed(deps, newest):
        checkpoint_shipping.ship(deps, newest)
    return None


def _sign_head(deps: Dependencies) -> Checkpoint:
    key = log_key(deps)
    with deps.ledger.system() as system:
        checkpoint = auth.make_checkpoint(ORIGIN, system.events.size(), system.events.root(), key, deps.clock.now())
        system.events.add_checkpoint(checkpoint)
    checkpoint_shipping.ship(deps, checkpoint)
    return checkpoint


@usecase("audit.verify", "POST", "/api/audit/verify", Action.VERIFY_AUDIT)
def verify_log(deps: Dependencies, actor: Actor, witnessed: Notes = ()) -> AuditReport:
    """Recompute the whole log.

    Every leaf and the root; every checkpoint's signature, root and consistency are checked. The rows that the log anchors (identities,
    releases with their approvals, aliases, rollouts, keys, sessions, policies; runs with what their steps left, looks, splits, label
    reviews, data decisions, erasures, records, stored bytes) are compared with what it says of them. The log must continue what every
    place for checkpoints holds, and the signed notes in ``witnessed``, which somebody kept elsewhere.
    """
    permit(deps, actor, Action.VERIFY_AUDIT)
    damages = tuple(f"the database is damaged: {each}" for each in deps.ledger.damages(thorough=True))
    try:
        report = check_log(deps)
    except Corrupt as error:
        if not damages:
            raise
        return AuditReport(size=0, root="", checkpoints=0, problems=(*damages, f"the log cannot be read: {error.message}"))
    try:
        forks = tuple(fork.text for fork in checkpoint_shipping.find_forks(deps))
        forks += tuple(_bad_witnessed(deps, witnessed))
        told = tuple(notice.text for notice in checkpoint_shipping.notices(deps) if notice.code != "log_forked")
    except TailorbirdError as error:
        forks, told = (f"places for checkpoints were not looked at: {error.message}",), ()
    return report.model_copy(update={"problems": damages + report.problems + forks, "warnings": told})


def check_log(deps: Dependencies) -> AuditReport:
    """The same for whoever is entitled already."""
    replay, people = LogReplay(), auth.IdentityHistory()
    with deps.ledger.system(write=False) as system:
        size, root = system.events.size(), system.events.root()
        checkpoints = system.events.checkpoints()
        entries = _through(system.events.entries(), replay, people)
        problems = _bad_entries(entries, checkpoints, size, root)
        problems += tuple(_bad_rows(system, replay)) + tuple(_bad_people(system, people))
        try:
            changes = system.events.about(checkpoint_shipping.LOG_SUBJECT)
        except TailorbirdError as error:
            problems, changes = (*problems, error.message), ()
    problems += tuple(_bad_notes(deps, checkpoints, changes))
    return AuditReport(size=size, root=root, checkpoints=len(checkpoints), problems=problems)


@usecase("audit.inclusion", "GET", "/api/audit/inclusion", Action.VERIFY_AUDIT)
def prove_inclusion(deps: Dependencies, _actor: Actor, index: Index, size: TreeSize | None = None) -> Inclusion:
    """Prove that an entry is in the log.

    In the tree of ``size`` (default: the newest). Raises InvalidInput for what is not in the log.
    """
    with deps.ledger.system(write=False) as system:
        events = system.events
        whole = size or events.size()
        path = events.inclusion(index, whole)
        entry = next(iter(events.entries(index, index + 1)))
        return Inclusion(index=index, size=whole, leaf_hash=entry.leaf_hash, root=events.root_at(whole), path=path)


@usecase("audit.consistency", "GET", "/api/audit/consistency", Action.VERIFY_AUDIT)
def prove_consistency(deps: Dependencies, _actor: Actor, first: TreeSize, second: TreeSize | None = None) -> Consistency:
    """Prove that the log only grew.

    That the tree of size ``first`` is a beginning of that of size ``second`` (default: the newest). Raises InvalidInput for sizes the log
    never had.
    """
    with deps.ledger.system(write=False) as system:
        events = system.events
        whole = second or events.size()
        path = events.consistency(first, whole)
        return Consistency(first=first, second=whole, first_root=events.root_at(first), second_root=events.root_at(whole), path=path)


@local(Action.BACK_UP)
def export_log(deps: Dependencies, _actor: Actor, target: IO[str]) -> int:
    """Writes every entry of every tenant, a JSON object a line: ``index``, ``leaf_hash``, and ``body``, the text that the hash covers.

    Whoever holds checkpoints can check the file without tailorbird. Returns how many there are. Raises Forbidden.
    """
    count = 0
    with deps.ledger.system(write=False) as system:
        for entry in system.events.entries():
            line = {"index": entry.index, "leaf_hash": entry.leaf_hash, "body": entry.body}
            target.write(json.dumps(line) + "\n")
            count += 1
    return count


def _through(entries: Iterable[LogEntry], replay: LogReplay, people: auth.IdentityHistory) -> Iterator[LogEntry]:
    """The same entries, each replayed when it goes by."""
    for entry in entries:
        replay.take(entry)
        people.take(entry)
        yield entry


def _bad_entries(entries: Iterable[LogEntry], checkpoints: tuple[Checkpoint, ...], size: int, root: str) -> tuple[str, ...]:
    """What the recomputation finds; an entry that cannot even be read ends it."""
    try:
        return check_entries(entries, checkpoints, size=size, root=root)
    except Corrupt as error:
        return (error.message,)


def _bad_people(system: SystemWork, people: auth.IdentityHistory) -> Iterator[str]:
    """Changes of identities that nobody signed who may, and identities that are not what was signed."""
    yield from people.problems
    for tenant in system.tenants.all():
        with suppress(Corrupt):  # a row that cannot be read is told where rows are compared
            yield from auth.identity_problems(people, system.anchors.identities(tenant))


def _bad_rows(system: SystemWork, replay: LogReplay) -> Iterator[str]:
    """Rows that are not as the log anchors them, in the tables and where anchors are kept for look-ups; a head without its seal."""
    kept = defaultdict[str, list[AnchoredRow]](list)
    try:
        yield from head_problems(replay, system.anchors.head())
    except TailorbirdError as error:
        yield error.message
    try:
        for row in system.anchors.anchored():
            kept[row.tenant].append(row)
        if altered := system.anchors.altered_nodes():
            yield f"{altered} nodes of the tree over the anchored rows are not what these make"
    except Corrupt as error:
        yield error.message
    known = system.tenants.all().keys()
    for tenant in sorted(known | {name for name, rows in replay.rows.items() if rows}):
        try:
            yield from replay.differing(tenant, system.anchors.found(tenant), "record")
        except Corrupt as error:
            yield f"record of {tenant}: {error.message}"
    for tenant in sorted(kept.keys() | replay.rows.keys()):
        yield from replay.differing(tenant, kept[tenant], "anchors")


def _bad_witnessed(deps: Dependencies, notes: Sequence[str]) -> Iterator[str]:
    """What keeps the log from continuing notes that were kept elsewhere."""
    if not notes:
        return
    with deps.ledger.system(write=False) as system:
        keys = auth.keys_of_log(log_public_key(deps), system.events.about(checkpoint_shipping.LOG_SUBJECT))
    for number, note in enumerate(notes, 1):
        try:
            checkpoint = read_note(note, deps.clock.now())
            bad = _bad_note(checkpoint, keys)
        except TailorbirdError as error:
            bad = error.message
        if bad:
            yield f"checkpoint {number} of the witness: {bad}"
            continue
        with deps.ledger.system(write=False) as system:
            problem = checkpoint_shipping.discord(system, checkpoint.size, checkpoint.root)
            settled = checkpoint_shipping.is_settled(system, checkpoint.size, checkpoint.root)
        if problem and not settled:
            yield f"the witness: {problem}"


def _bad_notes(deps: Dependencies, checkpoints: tuple[Checkpoint, ...], changes: tuple[LogEntry, ...]) -> list[str]:
    """Notes that no key of this log signed, of those that signed at their size."""
    if not checkpoints:
        return []
    try:
        keys = auth.keys_of_log(log_public_key(deps), changes)
    except TailorbirdError as error:
        return [f"no signature of {len(checkpoints)} checkpoints could be checked: {error.message}"]
    problems = [(checkpoint.size, _bad_note(checkpoint, keys)) for checkpoint in checkpoints]
    return [f"checkpoint at size {size}: {problem}" for size, problem in problems if problem]


def _bad_note(checkpoint: Checkpoint, keys: Sequence[auth.LogKey]) -> str:
    """What is wrong with a note; empty where the key signed it that the log had at its size."""
    problem = "no key of this log signs at that size"
    for key in keys:
        if key.until is not None and checkpoint.size > key.until:
            continue
        try:
            auth.check_note(checkpoint, key.public)
        except TailorbirdError as error:
            problem = error.message
        else:
            return ""
    return problem
