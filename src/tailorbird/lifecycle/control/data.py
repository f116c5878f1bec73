"""Operations on data: snapshots, decisions about rows, erasures.

In: what a caller asks. Out: snapshots, differences, proofs, reports, certificates. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.erasure import Certificate, Erasure
from tailorbird.domain.identity import Signature
from tailorbird.domain.inspection import Inspection
from tailorbird.domain.value import Digest, Value
from tailorbird.lifecycle.control.operation import Nothing, Operation
from tailorbird.lifecycle.control.runs import RelativePath
from tailorbird.lifecycle.data import erasing, fixing, looking, reporting
from tailorbird.lifecycle.data.finding import Snapshot
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.lifecycle.running.uploads import require_uploaded
from tailorbird.reporting import DataFacts, data_report

SnapshotName = Annotated[
    str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+$", description="Digest, or how it begins; a run; an objective.")
]
ErasureName = Annotated[str, Field(min_length=1, max_length=12, pattern=r"^[0-9a-f]+$", description="Id of the erasure, or how it begins.")]


class Snapshots(Value):
    """The tenant's snapshots, newest first."""

    snapshots: tuple[Snapshot, ...]


class OneSnapshot(Value):
    """Names a snapshot."""

    snapshot: SnapshotName


class TwoSnapshots(Value):
    """Names a snapshot, and another to compare it with."""

    snapshot: SnapshotName
    other: SnapshotName


class RowAsked(Value):
    """A row of which presence or absence is to be proved."""

    snapshot: SnapshotName
    text: Annotated[str, Field(max_length=1_000_000)]
    target: Annotated[str, Field(max_length=1_000_000)]


class ReportAsked(Value):
    """Which report is wanted. With ``examples`` it shows texts of rows: for those who may read the data, and told to the log."""

    snapshot: SnapshotName
    examples: bool = False


class Document(Value):
    """A document in HTML that needs nothing beside itself, and what it says for machines."""

    html: str
    facts: DataFacts


class SuspectsAsked(Value):
    """Which likely label errors are wanted: the ``limit`` likeliest."""

    snapshot: SnapshotName
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class Fixes(Value):
    """Decisions about rows of a snapshot."""

    snapshot: SnapshotName
    fixes: Annotated[tuple[fixing.Fix, ...], Field(min_length=1, max_length=10_000)]


class Uploaded(Value):
    """A file that was uploaded before, to be looked at as if it had this name."""

    name: RelativePath
    file: Digest


class Person(Value):
    """Somebody to be forgotten, named as in the column of subjects."""

    subject: Annotated[str, Field(min_length=1, max_length=1000)]


class OneErasure(Value):
    """Names an erasure."""

    erasure: ErasureName


class Erasures(Value):
    """The tenant's erasures, newest first."""

    erasures: tuple[Erasure, ...]


class Certified(Value):
    """An erasure and its certificate."""

    erasure: Erasure
    certificate: Certificate


class SignedCertificate(Value):
    """A signature over the digest of a certificate, for the purpose ``erasure``."""

    erasure: ErasureName
    certificate: Digest
    signature: Signature


def _list(parts: Parts, actor: Actor, _asked: Nothing) -> Snapshots:
    return Snapshots(snapshots=looking.snapshots(parts, actor.tenant))


def _show(parts: Parts, actor: Actor, asked: OneSnapshot) -> looking.SnapshotView:
    return looking.show(parts, actor.tenant, asked.snapshot)


def _diff(parts: Parts, actor: Actor, asked: TwoSnapshots) -> looking.Difference:
    return looking.diff(parts, actor.tenant, asked.snapshot, asked.other)


def _prove(parts: Parts, actor: Actor, asked: RowAsked) -> looking.Proven:
    return looking.prove(parts, actor.tenant, asked.snapshot, asked.text, asked.target)


def _report(parts: Parts, actor: Actor, asked: ReportAsked) -> Document:
    found = reporting.report(parts, actor, asked.snapshot, examples=asked.examples)
    return Document(html=data_report(found), facts=found.facts)


def _suspects(parts: Parts, actor: Actor, asked: SuspectsAsked) -> fixing.Suspects:
    return fixing.suspects(parts, actor, asked.snapshot, asked.limit)


def _fix(parts: Parts, actor: Actor, asked: Fixes) -> fixing.Fixed:
    return fixing.fix(parts, actor, asked.snapshot, asked.fixes)


def _inspect(parts: Parts, actor: Actor, asked: Uploaded) -> Inspection:
    require_uploaded(parts, actor.tenant, {asked.name: asked.file})
    return reporting.inspect_uploaded(parts, asked.name, asked.file)


def _erase(parts: Parts, actor: Actor, asked: Person) -> Certified:
    done = erasing.erase(parts, actor, asked.subject, Progress())
    return _certificate(parts, actor, OneErasure(erasure=done.id))


def _certificate(parts: Parts, actor: Actor, asked: OneErasure) -> Certified:
    erasure, certificate = erasing.certificate_of(parts, actor.tenant, asked.erasure)
    return Certified(erasure=erasure, certificate=certificate)


def _erasures(parts: Parts, actor: Actor, _asked: Nothing) -> Erasures:
    with parts.ledger.work(actor.tenant, write=False) as work:
        return Erasures(erasures=work.erasures.all())


def _certify(parts: Parts, actor: Actor, asked: SignedCertificate) -> Erasure:
    return erasing.certify(parts, actor, asked.erasure, asked.certificate, asked.signature)


LIST = Operation("data.list", "GET", "/api/snapshots", Action.SHOW_DATA, Nothing, Snapshots, _list, "List snapshots, newest first.")
SHOW = Operation(
    "data.show", "GET", "/api/snapshots/{snapshot}", Action.SHOW_DATA, OneSnapshot, looking.SnapshotView, _show, "Show a snapshot."
)
DIFF = Operation(
    "data.diff",
    "GET",
    "/api/snapshots/{snapshot}/diff",
    Action.SHOW_DATA,
    TwoSnapshots,
    looking.Difference,
    _diff,
    "Compare two snapshots, row by row.",
)
PROVE = Operation(
    "data.prove",
    "POST",
    "/api/snapshots/{snapshot}/proofs",
    Action.READ_DATA,
    RowAsked,
    looking.Proven,
    _prove,
    "Prove that a row is in a snapshot, or that it is not.",
)
REPORT = Operation(
    "data.report",
    "POST",
    "/api/snapshots/{snapshot}/report",
    Action.SHOW_DATA,
    ReportAsked,
    Document,
    _report,
    "Write its report: HTML, and the same for machines.",
)
SUSPECTS = Operation(
    "data.suspects",
    "GET",
    "/api/snapshots/{snapshot}/suspects",
    Action.READ_DATA,
    SuspectsAsked,
    fixing.Suspects,
    _suspects,
    "Read the likeliest label errors, with their texts.",
)
FIX = Operation(
    "data.fix",
    "POST",
    "/api/snapshots/{snapshot}/decisions",
    Action.FIX_DATA,
    Fixes,
    fixing.Fixed,
    _fix,
    "Decide about rows; the result is a new snapshot.",
)
INSPECT = Operation(
    "data.inspect",
    "POST",
    "/api/data/inspect",
    Action.PLAN,
    Uploaded,
    Inspection,
    _inspect,
    "Look at an uploaded file.",
)
ERASE = Operation(
    "data.erase", "POST", "/api/erasures", Action.ERASE_DATA, Person, Certified, _erase, "Forget a person, and write the certificate."
)
ERASURES = Operation("data.erasures", "GET", "/api/erasures", Action.SHOW_DATA, Nothing, Erasures, _erasures, "List erasures.")
CERTIFICATE = Operation(
    "data.certificate",
    "GET",
    "/api/erasures/{erasure}",
    Action.SHOW_DATA,
    OneErasure,
    Certified,
    _certificate,
    "Show an erasure and its certificate.",
)
CERTIFY = Operation(
    "data.certify",
    "POST",
    "/api/erasures/{erasure}/signature",
    Action.ERASE_DATA,
    SignedCertificate,
    Erasure,
    _certify,
    "File the signature over a certificate.",
)
