"""Events of the tamper-evident log, and its signed checkpoints."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import Field

from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Value

#: A digest, or how one begins: enough of it that few others begin so, as tables and pages show it.
_BEGUN = re.compile("sha256:[0-9a-f]{6,64}")


def is_begun_digest(subject: str) -> bool:
    """True for what the log finds subjects by that only begin so."""
    return _BEGUN.fullmatch(subject) is not None


class Event(Value):
    """One state change or denial. ``kind`` reads ``noun.verb`` (``release.approved``, ``access.denied``).

    ``rows`` are the rows of the tenant that changed with it, by name, each with the digest that it has since; None for one that is gone. In
    the name ``*`` stands for every row of the tenant. ``signature`` is over what somebody asked for, where they had to sign it.

    ``salt`` is drawn when the event is appended (32 hexadecimal digits) and stands in the entry's ``body`` alone: without it, who may ask
    for the leaf hash of an entry could test guesses of what another tenant did.
    """

    kind: str
    tenant: str
    actor: str
    subject: str
    at: datetime
    data: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    rows: dict[str, Digest | None] = Field(default_factory=dict)
    signature: Signature | None = None
    salt: str = ""


class AnchoredRow(Value):
    """A row of a tenant by its name (``identity/ada``), and the digest of what it holds; None where there is no such row."""

    tenant: str
    name: str
    digest: Digest | None


class LogHead(Value):
    """The log at one moment: its size, the root over its entries, and the root over the rows that they anchor. Roots in hex."""

    size: int
    root: str
    state: str

    def statement(self) -> bytes:
        """What is signed, so that nobody who can only write to the database appends to the log."""
        return f"tailorbird/log-head/v1\n{self.size}\n{self.root}\n{self.state}\n".encode()


class Remark(Value):
    """What somebody wrote, which may name a person. It is kept beside the log, which has the digest of this value alone: a commitment, and
    ``salt`` (32 hexadecimal digits, drawn at random) keeps it from being guessed. Erased, it leaves nothing."""

    text: str
    salt: str


class LogEntry(Value):
    """An event at its place in the log. ``leaf_hash`` is SHA-256(0x00 ‖ RFC 8785 JSON of the event), in hex.

    ``body`` is that JSON, byte for byte as it is stored: what a verifier hashes. It is empty where an entry was not read from a log.
    """

    index: int
    leaf_hash: str
    event: Event
    body: str = ""


class Checkpoint(Value):
    """A signed statement of the log's size and root, in C2SP signed-note form (``note`` is the whole text)."""

    origin: str
    size: int
    root: str
    note: str
    at: datetime


class AuditReport(Value):
    """What ``audit verify`` found. ``problems`` is empty exactly when the log is intact; ``warnings`` do not touch that."""

    size: int
    root: str
    checkpoints: int
    problems: tuple[str, ...]
    head: Digest | None = None
    warnings: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """True when nothing was found wrong."""
        return not self.problems
