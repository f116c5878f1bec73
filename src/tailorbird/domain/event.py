"""Events of the tamper-evident log, and its signed checkpoints."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import Field

from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Value

#: A digest, or how one begins: enough of it that few others begin so, as tables and pages show it.
_BEGUN = re.compile("sha256:[0-9a-f]{6,64}")


#: Every kind of event, and what it says. Anybody of the tenant may read them: ``tailorbird audit log``.
EVENTS = {
    "access.denied": "An identity, or a caller with its key, asked for what its roles do not allow. A flood is counted, not repeated.",
    "alias.rehearsed": "A drill moved an alias to a staged release and back.",
    "content.purged": "Kept texts of requests and answers passed their retention and were deleted.",
    "data.annotated": "A hosted model labelled texts, which were written to a file.",
    "data.decided": "Decisions about rows were filed: kept, relabelled or dropped.",
    "data.erased": "The rows of a data subject were erased from the record, the artifacts and the traffic.",
    "data.erasure_asked": "The erasure of a data subject began.",
    "data.erasure_certified": "The certificate of an erasure was signed.",
    "data.paid": "A hosted model was paid for labels.",
    "data.read": "Texts of a snapshot were read by a person.",
    "data.sent": "Texts left the house for a hosted model.",
    "data.snapshot_rewritten": "A snapshot was replaced by one without the rows of a data subject.",
    "endpoint.added": "A hosted model's endpoint was registered or changed.",
    "endpoint.removed": "An endpoint was removed.",
    "file.uploaded": "A file was uploaded for an objective.",
    "identity.added": "An identity was added with its public key.",
    "identity.confirmed": "A second admin confirmed a proposed identity.",
    "identity.disabled": "An identity was disabled.",
    "identity.proposed": "An identity with power over releases was proposed; it acts once a second admin has confirmed it.",
    "identity.rotated": "An identity replaced its key, signed by the old one.",
    "key.created": "An API key was made.",
    "key.limited": "The limits of an API key changed.",
    "key.revoked": "An API key was revoked.",
    "key.rotated": "An API key was replaced by another.",
    "log.fork_settled": "An admin settled a fork of the log, with the reason.",
    "log.key_rotated": "The key that signs the log was replaced, signed by the old one.",
    "log.sealed_anew": "An admin signed the log's head anew after its seal was lost.",
    "release.approved": "A release was approved; the signature is over its digest.",
    "release.change_asked": "A promotion, rollback or rollout was asked for by hand.",
    "release.drafted": "A run drafted a release.",
    "release.drilled": "Promotion and rollback of a staged release were rehearsed.",
    "release.excepted": "A rule of the high tier was waived, with the reason of the objective.",
    "release.exported": "A release was exported as a model or adapter.",
    "release.gated": "The gate decided on a candidate by the sealed test.",
    "release.load_refused": "An engine refused to load a release, which is not what was signed.",
    "release.promoted": "A release answers under its alias.",
    "release.quorum_reached": "A release has all the approvals that it needs.",
    "release.rejected": "A release was rejected, for good.",
    "release.restored": "The former release answers under the alias again.",
    "release.rolled_back": "A release was taken back by hand.",
    "release.staged": "An approved release was staged.",
    "requests.purged": "Records of requests passed their retention and were deleted.",
    "review.judged": "A reviewer judged an answer of a release, blind.",
    "review.opened": "A label review was opened.",
    "review.settled": "A referred answer was settled by a person.",
    "rollout.advanced": "A rollout went to its next share of traffic.",
    "rollout.held": "A guard stopped the advance of a rollout.",
    "rollout.inconclusive": "A rollout ended without evidence for either release.",
    "rollout.promoted": "A rollout ended with its candidate in production.",
    "rollout.resumed": "A held rollout went on.",
    "rollout.rolled_back": "A rollout took its candidate back.",
    "rollout.started": "A rollout began.",
    "rows.changed": "Rows changed that no other event of the transaction speaks of.",
    "run.cancelled": "A run was cancelled.",
    "run.revived": "A failed or cancelled run was submitted again.",
    "run.submitted": "A run was submitted.",
    "rung.allowed": "A second person allowed full fine-tuning for a high-risk run.",
    "session.opened": "An identity logged in to the server.",
    "signal.raised": "The watch found drift, errors or a missed target in production.",
    "step.done": "A step of a run ended; the event names its result.",
    "step.failed": "A step of a run failed.",
    "tenant.created": "A tenant was made.",
    "tenant.limited": "The limits of a tenant changed.",
    "tenant.places_set": "The places where a tenant's artifacts lie changed.",
    "tenant.policy_set": "The policy of a tenant changed.",
    "tenant.removed": "A tenant was removed, with everything of it but its log.",
    "tenant.resumed": "A suspended tenant may call again.",
    "tenant.suspended": "A tenant's calls are rejected.",
    "test.opened": "A candidate was scored on the sealed test; the event numbers the look.",
    "workspace.backed_up": "A backup was made.",
    "workspace.encrypted": "The workspace was encrypted at rest.",
    "workspace.key_rotated": "The key that wraps the tenants' keys was replaced.",
    "workspace.restored": "The workspace was restored from a backup.",
}


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
