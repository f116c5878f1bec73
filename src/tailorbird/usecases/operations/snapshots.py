"""Operations on data: snapshots, decisions about rows, erasures."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.erasure import Certificate, Erasure
from tailorbird.domain.identity import Signature
from tailorbird.domain.inspection import Inspection
from tailorbird.domain.value import Digest, Value
from tailorbird.reporting import DataFacts, data_report
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.operations.operation import Nothing, Operation
from tailorbird.usecases.operations.runs import RelativePath
from tailorbird.usecases.runs.uploads import require_uploaded
from tailorbird.usecases.snapshots import label_errors, report, snapshot_queries
from tailorbird.usecases.snapshots.snapshot_lookup import Snapshot

SnapshotName = Annotated[
    str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+$", description="Digest, or how it begins; a run; an objective.")
]
ErasureName = Annotated[str, Field(min_length=1, max_length=12, pattern=r"^[0-9a-f]+$", description="Id of the erasure, or how it begins.")]


class SnapshotList(Value):
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


class HtmlReport(Value):
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
    fixes: Annotated[tuple[label_errors.Fix, ...], Field(min_length=1, max_length=10_000)]


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


class ErasureList(Value):
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


def _list(deps: Dependencies, actor: Actor, _asked: Nothing) -> SnapshotList:
    return SnapshotList(snapshots=snapshot_queries.snapshots(deps, actor.tenant))


def _show(deps: Dependencies, actor: Actor, asked: OneSnapshot) -> snapshot_queries.SnapshotView:
    return snapshot_queries.show(deps, actor.tenant, asked.snapshot)


def _diff(deps: Dependencies, actor: Actor, asked: TwoSnapshots) -> snapshot_queries.SnapshotDifference:
    return snapshot_queries.diff(deps, actor.tenant, asked.snapshot, asked.other)


def _prove(deps: Dependencies, actor: Actor, asked: RowAsked) -> snapshot_queries.RowPresence:
    return snapshot_queries.prove(deps, actor.tenant, asked.snapshot, asked.text, asked.target)


def _report(deps: Dependencies, actor: Actor, asked: ReportAsked) -> HtmlReport:
    found = report.report(deps, actor, asked.snapshot, examples=asked.examples)
    return HtmlReport(html=data_report(found), facts=found.facts)


def _suspects(deps: Dependencies, actor: Actor, asked: SuspectsAsked) -> label_errors.Suspects:
    return label_errors.suspects(deps, actor, asked.snapshot, asked.limit)


def _fix(deps: Dependencies, actor: Actor, asked: Fixes) -> label_errors.Fixed:
    return label_errors.fix(deps, actor, asked.snapshot, asked.fixes)


def _inspect(deps: Dependencies, actor: Actor, asked: Uploaded) -> Inspection:
    require_uploaded(deps, actor.tenant, {asked.name: asked.file})
    return report.inspect_uploaded(deps, asked.name, asked.file)


def _erase(deps: Dependencies, actor: Actor, asked: Person) -> Certified:
    done = erase.erase(deps, actor, asked.subject, Progress())
    return _certificate(deps, actor, OneErasure(erasure=done.id))


def _certificate(deps: Dependencies, actor: Actor, asked: OneErasure) -> Certified:
    erasure, certificate = erase.certificate_of(deps, actor.tenant, asked.erasure)
    return Certified(erasure=erasure, certificate=certificate)


def _erasures(deps: Dependencies, actor: Actor, _asked: Nothing) -> ErasureList:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return ErasureList(erasures=work.erasures.all())


def _certify(deps: Dependencies, actor: Actor, asked: SignedCertificate) -> Erasure:
    return erase.certify(deps, actor, asked.erasure, asked.certificate, asked.signature)


LIST = Operation("data.list", "GET", "/api/snapshots", Action.SHOW_DATA, Nothing, SnapshotList, _list, "List snapshots, newest first.")
SHOW = Operation(
    "data.show", "GET", "/api/snapshots/{snapshot}", Action.SHOW_DATA, OneSnapshot, snapshot_queries.SnapshotView, _show, "Show a snapshot."
)
DIFF = Operation(
    "data.diff",
    "GET",
    "/api/snapshots/{snapshot}/diff",
    Action.SHOW_DATA,
    TwoSnapshots,
    snapshot_queries.SnapshotDifference,
    _diff,
    "Compare two snapshots, row by row.",
)
PROVE = Operation(
    "data.prove",
    "POST",
    "/api/snapshots/{snapshot}/proofs",
    Action.READ_DATA,
    RowAsked,
    snapshot_queries.RowPresence,
    _prove,
    "Prove that a row is in a snapshot, or that it is not.",
)
REPORT = Operation(
    "data.report",
    "POST",
    "/api/snapshots/{snapshot}/report",
    Action.SHOW_DATA,
    ReportAsked,
    HtmlReport,
    _report,
    "Write its report: HTML, and the same for machines.",
)
SUSPECTS = Operation(
    "data.suspects",
    "GET",
    "/api/snapshots/{snapshot}/suspects",
    Action.READ_DATA,
    SuspectsAsked,
    label_errors.Suspects,
    _suspects,
    "Read the likeliest label errors, with their texts.",
)
FIX = Operation(
    "data.fix",
    "POST",
    "/api/snapshots/{snapshot}/decisions",
    Action.FIX_DATA,
    Fixes,
    label_errors.Fixed,
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
ERASURES = Operation("data.erasures", "GET", "/api/erasures", Action.SHOW_DATA, Nothing, ErasureList, _erasures, "List erasures.")
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
