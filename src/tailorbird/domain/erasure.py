"""Erasure request: findings, actions, obligations of others with due dates, and the signed certificate."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Literal

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

    Both proofs are JSON of ``crypto/merkle.py: Proof``, against the roots named beside them.
    """

    key: str
    was: str
    is_gone: str


class RewrittenDocuments(Value):
    """Documents that went from a snapshot, proved against the seals of the documents before and after; the new root is empty where none
    are left. ``proofs`` are fewer than ``count`` where the old snapshot was made before documents were sealed."""

    count: int
    old_root: str = ""
    old_size: int = 0
    new_root: str = ""
    new_size: int = 0
    proofs: tuple[RowProof, ...] = ()


class RewrittenSnapshot(Value):
    """A snapshot that held rows or documents of the person, and the one that was made without them. Sizes are in rows, roots in hex.
    ``documents`` are those that went."""

    objective: Name
    old: Digest
    old_root: str
    old_size: int
    new: Digest
    new_root: str
    new_size: int
    rows: tuple[RowProof, ...]
    documents: RewrittenDocuments | None = None


class ObligationKind(StrEnum):
    """What is left for people to do."""

    RETIRE = "retire"
    RETRAIN = "retrain"
    CLEAN_SOURCE = "clean_source"
    EXPIRE_BACKUPS = "expire_backups"
    TELL_PROCESSOR = "tell_processor"
    FIND_BY_HAND = "find_by_hand"


class Obligation(Value):
    """Something to be done by ``due``. ``what`` names a release, an objective, or file and line; never a row's text."""

    kind: ObligationKind
    what: str
    due: date
    why: str


class ErasureReach(Value):
    """What the person's rows and documents reached, by name or digest. ``adapters`` are adapters, weights, tuned encoders and floors that
    learned from them; ``indexes`` hold ``passages`` of their documents; ``aliases`` answer with a reached release, mirror it, or would
    return to it. Requests and feedback are those of reached releases, counted: they hold no name of a person."""

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
    rollouts: tuple[str, ...] = ()
    documents: int = 0
    passages: int = 0


class ErasedWords(Value):
    """What went with one request. ``what``: the words that were ``kept``, what people said (``feedback``, ``review``), the ``trace`` of
    whom it was answered for. ``why``: it was sent for the person, or held their words or name. ``key`` is the salted digest of the kept
    text (empty where none was kept): who has the text can have it recomputed, and nobody else learns anything from it."""

    request: str
    what: tuple[Literal["kept", "feedback", "review", "trace"], ...]
    why: Literal["sent", "held"]
    key: str = ""


class ErasedAnswers(Value):
    """What went from one label review. ``sheet`` is the digest that its releases sign, and go on signing; ``instead`` the record that
    stands in its place, with the same items but without the two answers of those numbered in ``items``. ``reasons`` counts what
    reviewers had written about them, or with the person's words."""

    sheet: Digest
    instead: Digest
    items: tuple[int, ...]
    reasons: int


class Treatment(StrEnum):
    """What an erasure does about a place. ``SEARCHED``: what is the person's was looked for there, and goes. ``CLEARED``: all of the
    tenant's working copies there go, whosever they are, and are made again. ``NO_DATA``: no data of a subject comes there.
    ``NOT_SEARCHED``: it may hold some, and this program does not reach it."""

    SEARCHED = "searched"
    CLEARED = "cleared"
    NO_DATA = "no_data"
    NOT_SEARCHED = "not_searched"


class PlaceTreated(Value):
    """A place that may hold a person's data, and what the erasure did about it."""

    name: str
    treatment: Treatment
    how: str


class NotLookedFor(Value):
    """Something by which the person may be known and that was not looked for: ``what``, in which ``places``, and ``why``. It holds no name
    of a person."""

    what: str
    places: tuple[str, ...]
    why: str


class Certificate(Value):
    """What the tenant states about an erasure, and signs. ``purged`` are artifacts that the tenant holds no longer and whose bytes were
    destroyed, unless another tenant stored the same bytes as its own. ``forgotten`` are candidates whose prompts were destroyed, ``words``
    what went with requests, ``answers`` what went from label reviews. ``uploads`` are the files among ``purged`` that were uploaded,
    ``unread`` uploaded files that could not be searched. ``places`` says what was searched and what was not, ``not_looked_for`` what they
    were not searched for. ``earlier`` is the certificate of what was found the time before, where more of the person was found, could be
    destroyed, or had to be said, later."""

    erasure: str
    tenant: Name
    subject: str
    asked_by: Name
    asked_at: datetime
    done_at: datetime
    reach: ErasureReach
    snapshots: tuple[RewrittenSnapshot, ...]
    purged: tuple[Digest, ...]
    duties: tuple[Obligation, ...]
    earlier: Digest | None = None
    words: tuple[ErasedWords, ...] = ()
    forgotten: tuple[Digest, ...] = ()
    answers: tuple[ErasedAnswers, ...] = ()
    uploads: tuple[Digest, ...] = ()
    unread: tuple[Digest, ...] = ()
    places: tuple[PlaceTreated, ...] = ()
    not_looked_for: tuple[NotLookedFor, ...] = ()
