"""A person asked to be forgotten: what was found of theirs, what was done, what others must do by when, and the signed statement of it.

In: pseudonyms, digests, proofs. Out: values. Must not know: names of people, texts of rows, where anything is stored.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Name, Value


class ErasureState(StrEnum):
    """``OPEN``: asked for, heeded by every new snapshot, and being carried out. ``DONE``: carried out, and certified by a signature."""

    OPEN = "open"
    DONE = "done"


class Erasure(Value):
    """One person to be forgotten in one tenant. ``id`` names it in events; ``subject`` is their keyed pseudonym, which stays, so that their
    rows never come back. ``certificate`` is the digest of the ``Certificate`` once all is done, ``signature`` is over it."""

    id: str
    tenant: Name
    subject: str
    by: Name
    at: datetime
    state: ErasureState = ErasureState.OPEN
    certificate: Digest | None = None
    signature: Signature | None = None


class RowProof(Value):
    """One row that went: its salted key, that it was in the old snapshot, and that it is not in the new one.

    Both proofs are JSON of ``foundations/membership.py: Proof``, against the roots named beside them.
    """

    key: str
    was: str
    is_gone: str


class RewrittenSnapshot(Value):
    """A snapshot that held rows of the person, and the one that was made without them. Sizes are in rows, roots in hex."""

    objective: Name
    old: Digest
    old_root: str
    old_size: int
    new: Digest
    new_root: str
    new_size: int
    rows: tuple[RowProof, ...]


class DutyKind(StrEnum):
    """What is left for people to do."""

    RETIRE = "retire"
    RETRAIN = "retrain"
    CLEAN_SOURCE = "clean_source"
    EXPIRE_BACKUPS = "expire_backups"


class Duty(Value):
    """Something to be done by ``due``. ``what`` names a release, an objective, or file and line; never a row's text."""

    kind: DutyKind
    what: str
    due: date
    why: str


class Reach(Value):
    """What the person's rows reached, by name or digest. Requests and feedback are counted: they hold no name of a person."""

    snapshots: tuple[Digest, ...] = ()
    runs: tuple[str, ...] = ()
    candidates: tuple[Digest, ...] = ()
    adapters: tuple[Digest, ...] = ()
    prompts: tuple[Digest, ...] = ()
    indexes: tuple[Digest, ...] = ()
    releases: tuple[Digest, ...] = ()
    aliases: tuple[str, ...] = ()
    requests: int = 0
    feedback: int = 0


class Certificate(Value):
    """What the tenant states about an erasure, and signs. ``purged`` are artifacts whose bytes were destroyed. ``earlier`` is the
    certificate of what was found the time before, where more of the person was found later."""

    erasure: str
    tenant: Name
    subject: str
    asked_by: Name
    asked_at: datetime
    done_at: datetime
    reach: Reach
    snapshots: tuple[RewrittenSnapshot, ...]
    purged: tuple[Digest, ...]
    duties: tuple[Duty, ...]
    earlier: Digest | None = None
