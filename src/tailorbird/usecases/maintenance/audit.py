"""Audit of the event log: checkpoints signed and shipped off the machine, forks, verification, proofs, export, the log's key."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Annotated
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import Field, ValidationError

from tailorbird import auth
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import canonical_json, plain_json
from tailorbird.crypto.log_verification import LogReplay, check_entries, head_problems, read_note
from tailorbird.domain.errors import Conflict, Corrupt, NotFound, TailorbirdError
from tailorbird.domain.event import AnchoredRow, AuditReport, Checkpoint, LogEntry, is_begun_digest
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import SystemWork
from tailorbird.ports.tracker import Notifier
from tailorbird.system.files import OWNER_FILE, flush, private_folder
from tailorbird.usecases.audit_events import Facts, record, remark, remarks
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import PageSize, local, usecase

_log = logging.getLogger("tailorbird.checkpoints")

#: A place that was away for long gets the newest of what it missed: each covers all before it.
_MOST_OWED = 100
#: The end of a file in which its newest checkpoint is looked for, in bytes.
_TAIL = 65_536
#: The kind of the events by which an admin settles a fork, and the subject of those about the log itself.
SETTLED, LOG_SUBJECT = "log.fork_settled", "log"


class Notice(Value):
    """Something an operator should see to. ``code`` is stable; the text names no path and no model, and a tenant or its people only where
    ``tenant`` says whose they are."""

    code: str
    text: str
    tenant: str | None = None


class LogFork(Value):
    """A place holds a checkpoint of ``size`` entries with ``root`` (empty: only its size is known), and the log does not continue it."""

    place: str
    size: int
    root: str
    text: str


class _Shipped(Value):
    """How far a place is: it is owed checkpoints of more than ``size`` entries, the last of which had ``root``. ``at``: its last delivery.
    ``alarmed``: a fork was told."""

    size: int
    root: str = ""
    at: datetime | None = None
    problem: str = ""
    alarmed: bool = False


@dataclass(frozen=True)
class _Place:
    """Where checkpoints go. ``name`` is told in logs: a webhook's host alone, since its URL may hold a secret."""

    name: str
    address: str
    deliver: Callable[[Checkpoint], None]
    file: Path | None = None

    def state_file(self, deps: Dependencies) -> Path:
        return deps.workspace / "shipping" / f"{hashlib.sha256(self.address.encode()).hexdigest()[:16]}.json"


def ship(deps: Dependencies, newest: Checkpoint) -> int:
    """Brings every place up to ``newest``; returns how many could not be. Raises nothing but what the ledger raises."""
    places = _places(deps)
    if not places:
        return 0
    with deps.ledger.system(write=False) as system:
        checkpoints = system.events.checkpoints()
    forked = {fork.place for fork in find_forks(deps)}
    return sum(place.name in forked or not _bring_up_to_date(deps, place, checkpoints, newest) for place in places)


def checkpoint_notices(deps: Dependencies) -> tuple[Notice, ...]:
    """Notices about checkpoints that do not leave this machine, or late."""
    places, found, late = _places(deps), [], 0
    if not any(_is_away(deps, place) for place in places):
        away = "every place for checkpoints lies on the disk of the workspace: name one on another machine in the setting checkpoints"
        nowhere = "checkpoints of the log never leave this machine: name a file elsewhere or a webhook in the setting checkpoints"
        found.append(Notice(code="checkpoints_stay", text=away if places else nowhere))
    if forks := find_forks(deps):
        text = f"{len(forks)} of {len(places)} places for checkpoints hold one that the log does not continue: it was cut or rewritten"
        found.append(Notice(code="log_forked", text=f"{text}; nothing is promoted until an admin settles it: tailorbird audit settle"))
    for place in places if deps.upkeep.checkpoint_every else ():
        shipped = _load(place.state_file(deps))
        covered = shipped.size if shipped else 0
        with deps.ledger.system(write=False) as system:
            if system.events.size() > covered:
                (entry,) = islice(system.events.entries(covered, covered + 1), 1)
                late += entry.event.at < deps.clock.now() - 2 * deps.upkeep.checkpoint_every
    if late:
        text = f"{late} of {len(places)} places for checkpoints lack what was logged more than two intervals ago: the server's log says why"
        found.append(Notice(code="checkpoints_late", text=text))
    return tuple(found)


def find_forks(deps: Dependencies) -> tuple[LogFork, ...]:
    """Places whose newest checkpoint the log does not continue, without those that an admin has settled."""
    found = []
    with deps.ledger.system(write=False) as system:
        settled = {(fact["place"], fact["size"], fact["root"]) for fact in _settlements(system)}
        keys: tuple[auth.LogKey, ...] = ()  # where not even the public half of the present one is here
        with suppress(NotFound):
            keys = auth.keys_of_log(auth.public_of_log(deps.workspace), system.events.about(LOG_SUBJECT))
        for place in _places(deps):
            size, root = _newest_there(deps, place, keys)
            problem = fork_between(system, size, root)
            if problem and (place.name, size, root) not in settled:
                found.append(LogFork(place=place.name, size=size, root=root, text=f"{place.name}: {problem}"))
    return tuple(found)


def _settlements(system: SystemWork) -> Iterator[Mapping[str, object]]:
    return (entry.event.data for entry in system.events.about(LOG_SUBJECT) if entry.event.kind == SETTLED)


def _newest_there(deps: Dependencies, place: _Place, keys: Sequence[auth.LogKey]) -> tuple[int, str]:
    """Size and root of the newest checkpoint that a place holds, by its own word where it is a file; (0, "") where there is none."""
    state = _load(place.state_file(deps))
    if place.file is not None:
        told = _newest_line(place.file, keys)
        if told is not None:
            return told.size, told.root
    return (state.size, state.root) if state is not None and state.at is not None else (0, "")


def _newest_line(file: Path, keys: Sequence[auth.LogKey]) -> Checkpoint | None:
    """The last line of a file that a key of this log signed."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL))
            lines = opened.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(ValidationError):
            found = Checkpoint.model_validate_json(line)
            for key in keys:
                with suppress(TailorbirdError):
                    auth.check_note(found, key.public)
                    return found
    return None


def fork_between(system: SystemWork, size: int, root: str) -> str:
    """What tells that the log is no continuation of the tree of ``size`` with ``root``; empty where it is one, as far as can be told."""
    whole = system.events.size()
    if size > whole:
        return f"it holds a checkpoint of {size} entries, and the log has {whole}"
    if root and size and system.events.root_at(size) != root:
        return f"its checkpoint of {size} entries has another root than the log at that size"
    return ""


def _places(deps: Dependencies) -> list[_Place]:
    files = [_Place(str(path), str(path.absolute()), partial(_append, path), path) for path in deps.upkeep.checkpoint_files]
    return files + [
        _Place(urlsplit(url).hostname or "webhook", url, partial(_send, hook)) for url, hook in deps.upkeep.checkpoint_hooks.items()
    ]


def _send(hook: Notifier, checkpoint: Checkpoint) -> None:
    hook.send({"kind": "log.checkpoint"} | plain_json(checkpoint))


def _append(path: Path, checkpoint: Checkpoint) -> None:
    """Adds one line of JSON, and returns when it is on the disk. A line that a power loss tore is ended first."""
    with path.open("ab+") as file:
        torn = file.tell() > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
        file.write((b"\n" if torn else b"") + canonical_json(checkpoint) + b"\n")
        flush(file)


def _bring_up_to_date(deps: Dependencies, place: _Place, checkpoints: tuple[Checkpoint, ...], newest: Checkpoint) -> bool:
    """Delivers what the place is owed, oldest first. A place that is new is owed the newest alone."""
    shipped = _load(place.state_file(deps)) or _Shipped(size=newest.size - 1)
    by_size = {checkpoint.size: checkpoint for checkpoint in checkpoints if checkpoint.size > shipped.size}
    try:
        for checkpoint in [by_size[size] for size in sorted(by_size)[-_MOST_OWED:]]:
            place.deliver(checkpoint)
            shipped = _Shipped(size=checkpoint.size, root=checkpoint.root, at=deps.clock.now())
    except (TailorbirdError, OSError) as error:
        problem = error.message if isinstance(error, TailorbirdError) else (error.strerror or type(error).__name__)
        _log.warning("a checkpoint did not reach %s: %s; it goes with the next", place.name, problem)
        shipped = shipped.model_copy(update={"problem": problem})
    _save(place.state_file(deps), shipped)
    return not shipped.problem


def _load(file: Path) -> _Shipped | None:
    """None for a place that nothing is known of; a file that cannot be read counts as none, and the place gets a checkpoint twice."""
    try:
        return _Shipped.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _save(file: Path, shipped: _Shipped) -> None:
    try:
        private_folder(file.parent)
        partial = file.with_name(f"{file.name}.{uuid4().hex}")
        partial.write_bytes(canonical_json(shipped))
        partial.replace(file)
    except OSError as error:
        _log.warning("how far checkpoints were shipped cannot be noted in the workspace: %s", error.strerror)


def _is_away(deps: Dependencies, place: _Place) -> bool:
    """True for a webhook, and for a file on another disk than the workspace: as far as can be told from here."""
    if place.address in deps.upkeep.checkpoint_hooks:
        return urlsplit(place.address).hostname not in ("localhost", "127.0.0.1", "::1")
    try:
        return Path(place.address).parent.stat().st_dev != deps.workspace.stat().st_dev
    except OSError:
        return False


Why = Annotated[str, Field(min_length=1, max_length=2000)]


class Settlement(Value):
    """The forks that were settled."""

    forks: tuple[LogFork, ...]


def demand_no_fork(deps: Dependencies) -> None:
    """Raises Conflict (``log_forked``) while the log does not continue what a place for checkpoints holds, and no admin has settled it."""
    forks = find_forks(deps)
    if forks:
        raise Conflict(
            f"the log does not continue what was shipped: {forks[0].text}",
            "find out who put the record back or changed it; then an admin settles it: tailorbird audit settle --reason ...",
            code="log_forked",
        )


@usecase("audit.settle", "POST", "/api/audit/settlements", Action.SETTLE_LOG)
def settle_forks(deps: Dependencies, actor: Actor, reason: Why) -> Settlement:
    """Settle forks of the log.

    After a backup took the record's place, say: what each place holds is put on record with the reason, and the places begin anew with
    the next checkpoint. Raises Conflict where there is nothing to settle.
    """
    forks = find_forks(deps)
    if not forks:
        raise Conflict("the log continues what every place holds", "there is nothing to settle")
    with deps.ledger.work(actor.tenant) as work:
        why = remark(work, reason)
        for fork in forks:
            facts: Facts = {"place": fork.place, "size": fork.size, "root": fork.root, "reason": why}
            record(work, SETTLED, actor.name, LOG_SUBJECT, deps.clock.now(), facts)
    forked = {fork.place for fork in forks}
    for place in _places(deps):
        if place.name in forked:
            place.state_file(deps).unlink(missing_ok=True)
    return Settlement(forks=forks)


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
def make_checkpoint(deps: Dependencies, _actor: Actor) -> Checkpoint:
    """Sign the log's head.

    Its present size and root; the note is stored, and shipped where the settings say. Raises Conflict where the log does not continue
    what was shipped before.
    """
    demand_no_fork(deps)
    return _sign_head(deps)


def keep_signed(deps: Dependencies) -> Checkpoint | None:
    """Makes a checkpoint when the log grew and the last one is an interval old; else ships what a place still lacks.

    A log that does not continue what was shipped is told of and not signed.
    """
    # Finds forks, and tells the log of the process and the receivers of alerts of each once.
    forks = {fork.place: fork for fork in find_forks(deps)}
    for place in _places(deps):
        state = _load(place.state_file(deps)) or _Shipped(size=0)
        fork = forks.get(place.name)
        if fork is None or state.alarmed:
            continue
        _log.error("the log does not continue the checkpoint at %s; nothing is promoted until an admin settles it", fork.text)
        message = {"kind": "log.forked", "place": fork.place, "size": fork.size, "text": fork.text}
        for notifier in deps.notifiers():
            try:
                notifier.send(message)
            except TailorbirdError as error:
                _log.warning("a fork of the log could not be told: %s", error.message)
        _save(place.state_file(deps), state.model_copy(update={"alarmed": True}))
    if tuple(forks.values()):
        return None
    with deps.ledger.system(write=False) as system:
        size, checkpoints = system.events.size(), system.events.checkpoints()
    newest = checkpoints[-1] if checkpoints else None
    if newest is None or (newest.size < size and newest.at <= deps.clock.now() - 0.9 * deps.upkeep.checkpoint_every):
        return _sign_head(deps)
    # True when a place lacks ``newest``.
    states = [_load(place.state_file(deps)) for place in _places(deps)]
    if any(state is None or state.size < newest.size for state in states):
        ship(deps, newest)
    return None


def _sign_head(deps: Dependencies) -> Checkpoint:
    key = log_key(deps)
    with deps.ledger.system() as system:
        checkpoint = auth.make_checkpoint(ORIGIN, system.events.size(), system.events.root(), key, deps.clock.now())
        system.events.add_checkpoint(checkpoint)
    ship(deps, checkpoint)
    return checkpoint


@usecase("audit.verify", "POST", "/api/audit/verify", Action.VERIFY_AUDIT)
def verify_log(deps: Dependencies, _actor: Actor, witnessed: Notes = ()) -> AuditReport:
    """Recompute the whole log.

    Every leaf and the root; every checkpoint's signature, root and consistency are checked. The rows that the log anchors (identities,
    releases with their approvals, aliases, rollouts, keys, sessions, policies; runs with what their steps left, looks, splits, label
    reviews, data decisions, erasures, records, stored bytes) are compared with what it says of them. The log must continue what every
    place for checkpoints holds, and the signed notes in ``witnessed``, which somebody kept elsewhere.
    """
    damages = tuple(f"the database is damaged: {each}" for each in deps.ledger.damages(thorough=True))
    try:
        report = check_log(deps)
    except Corrupt as error:
        if not damages:
            raise
        return AuditReport(size=0, root="", checkpoints=0, problems=(*damages, f"the log cannot be read: {error.message}"))
    try:
        forks = tuple(fork.text for fork in find_forks(deps))
        forks += tuple(_bad_witnessed(deps, witnessed))
        told = tuple(notice.text for notice in checkpoint_notices(deps) if notice.code != "log_forked")
    except TailorbirdError as error:
        forks, told = (f"places for checkpoints were not looked at: {error.message}",), ()
    return report.model_copy(update={"problems": damages + report.problems + forks, "warnings": told})


def check_log(deps: Dependencies) -> AuditReport:
    """The same for whoever is entitled already."""
    replay, people, purged = LogReplay(), auth.IdentityHistory(), dict[str, datetime]()
    with deps.ledger.system(write=False) as system:
        size, root = system.events.size(), system.events.root()
        checkpoints = system.events.checkpoints()

        def replayed() -> Iterator[LogEntry]:
            for entry in system.events.entries():
                replay.take(entry)
                people.take(entry)
                if entry.event.kind == "requests.purged":
                    before = datetime.fromisoformat(str(entry.event.data["before"]))
                    purged[entry.event.tenant] = max(purged.get(entry.event.tenant, before), before)
                yield entry

        try:
            problems = check_entries(replayed(), checkpoints, size=size, root=root)
        except Corrupt as error:  # an entry that cannot even be read ends it
            problems = (error.message,)
        problems += tuple(_bad_rows(system, replay))
        # Changes of identities that nobody signed who may, and identities that are not what was signed.
        problems += tuple(people.problems)
        for tenant in system.tenants.all():
            with suppress(Corrupt):  # a row that cannot be read is reported where rows are compared
                problems += tuple(auth.identity_problems(people, system.anchors.identities(tenant)))
        problems += tuple(_bad_usage(system, deps.clock.now(), purged))
        try:
            changes = system.events.about(LOG_SUBJECT)
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


def _bad_usage(system: SystemWork, now: datetime, purged: Mapping[str, datetime]) -> Iterator[str]:
    """What was used, for quotas and bills, that is not what the rows of requests sum to."""
    for tenant in system.tenants.all():
        try:
            yield from (f"usage of {tenant}: {found}" for found in system.usage.unexplained(tenant, now, purged.get(tenant)))
        except Corrupt as error:
            yield f"usage of {tenant}: {error.message}"


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
        keys = auth.keys_of_log(log_public_key(deps), system.events.about(LOG_SUBJECT))
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
            problem = fork_between(system, checkpoint.size, checkpoint.root)
            settled = {(fact["size"], fact["root"]) for fact in _settlements(system)}
        if problem and (checkpoint.size, checkpoint.root) not in settled:
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


class LogKeyChange(Value):
    """The public keys (base64) of before and now, and the verifier key now."""

    former: str
    public: str
    verifier_key: str


@local(Action.SETTLE_LOG)
def rotate_log_key(deps: Dependencies, actor: Actor) -> LogKeyChange:
    """Makes a new key of the log, which seals and signs from now on. Both keys sign the change, which stands in the log.

    A change that was cut off is done by doing it again. Raises Forbidden, NotFound (the key is on another machine).
    """
    former, folder = log_key(deps), deps.workspace / "keys"
    following, former_file = folder / "log.next.key", auth.former_key_file(deps.workspace)
    if not following.exists():
        auth.create_key(following)
    key, now = auth.load_key(following), deps.clock.now()
    change = LogKeyChange(
        former=auth.public_key(former), public=auth.public_key(key), verifier_key=auth.verifier_key(ORIGIN, auth.public_key(key))
    )
    with deps.ledger.work(actor.tenant) as work:
        record(work, auth.ROTATED, actor.name, LOG_SUBJECT, now, auth.rotation_facts(former, key, now))
    former_file.write_text(change.former + "\n", encoding="ascii")
    former_file.chmod(OWNER_FILE)
    following.replace(folder / "log.key")
    with deps.ledger.work(actor.tenant) as work:
        record(work, "log.sealed_anew", actor.name, LOG_SUBJECT, now)
    former_file.unlink()
    return change
