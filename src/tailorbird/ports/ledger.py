"""The record as a whole: units of work, each one transaction."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tailorbird.ports.clock import TimeFloor
from tailorbird.ports.data_keys import DataKeyRepository
from tailorbird.ports.deployment import AliasBook, AliasRepository, RequestRepository
from tailorbird.ports.events import AuditLog, EventLog, RowAnchorBook, RowAnchors
from tailorbird.ports.feedback import ContentRepository, FeedbackRepository, ReviewRepository
from tailorbird.ports.identity import ApiKeyRepository, IdentityRepository, SessionRepository, TenantDirectory
from tailorbird.ports.label_reviews import JudgementRepository, ModelReviewRepository
from tailorbird.ports.provenance import DecisionRepository, ErasureRepository, SecretRepository
from tailorbird.ports.quota import GatewayDirectory, StorageRepository, UsageBook, UsageRepository
from tailorbird.ports.records import RecordRepository, ReferenceBook
from tailorbird.ports.releases import LookRepository, ReleaseRepository, SplitRepository
from tailorbird.ports.rollout import RolloutRepository
from tailorbird.ports.runs import RunRepository, StepRepository, WorkQueue
from tailorbird.ports.signals import SignalRepository


class UnitOfWork(Protocol):
    """One tenant's repositories inside one transaction. Nobody calls commit: leaving the block does, an exception rolls back."""

    tenant: str
    records: RecordRepository
    runs: RunRepository
    steps: StepRepository
    releases: ReleaseRepository
    judgements: JudgementRepository
    model_reviews: ModelReviewRepository
    looks: LookRepository
    splits: SplitRepository
    aliases: AliasRepository
    requests: RequestRepository
    identities: IdentityRepository
    keys: ApiKeyRepository
    sessions: SessionRepository
    signals: SignalRepository
    decisions: DecisionRepository
    erasures: ErasureRepository
    secrets: SecretRepository
    data_keys: DataKeyRepository
    usage: UsageRepository
    storage: StorageRepository
    feedback: FeedbackRepository
    reviews: ReviewRepository
    contents: ContentRepository
    rollouts: RolloutRepository
    events: EventLog
    anchors: RowAnchors


class SystemWork(Protocol):
    """The repositories that stand above tenants, inside one transaction."""

    tenants: TenantDirectory
    aliases: AliasBook
    events: AuditLog
    anchors: RowAnchorBook
    queue: WorkQueue
    usage: UsageBook
    gateways: GatewayDirectory
    references: ReferenceBook
    floor: TimeFloor

    def of(self, tenant: str, /) -> UnitOfWork:
        """The repositories of one tenant, in the same transaction."""
        ...


class LedgerDatabase(Protocol):
    """The database under a ledger: its schema, its soundness, its connections."""

    def migrate(self) -> None:
        """Brings the schema to the newest version. Raises Unavailable when the database cannot be opened."""
        ...

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """Damages to the structure of the database's file, a sentence each, at most a few; with ``thorough`` also indexes that differ from
        their tables, which takes several times as long. Nothing where a server keeps the database and checks its own pages."""
        ...

    def role_script(self) -> str:
        """SQL that makes the roles of gateway and worker, with what each may do; empty where the database has no roles."""
        ...

    def close(self) -> None:
        """Closes all connections."""
        ...


class Ledger(LedgerDatabase, Protocol):
    """Opens units of work. Writers come one after another. ``write=False`` promises to change nothing, sees one state, and never waits
    for a writer; what writes all the same raises Unavailable."""

    def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> AbstractContextManager[UnitOfWork]:
        """A transaction over one tenant's repositories. Raises NotFound when the tenant does not exist.

        What is not ``durable`` survives the end of any process from its commit on, and the end of the machine only from the next
        ``flush`` or durable transaction on.
        """
        ...

    def system(self, *, write: bool = True) -> AbstractContextManager[SystemWork]:
        """A transaction over the system repositories."""
        ...

    def flush(self, *, scrub: bool = False) -> None:
        """Makes durable what was committed so far. No writer waits for it. Raises Unavailable.

        With ``scrub``, what was deleted is taken out of the log of changes, too, where the database is a file and nobody reads what was
        there before; then writers may have to wait.
        """
        ...

    def pulse(self) -> object | None:
        """What is another after a commit, whoever made it, told at once and without a transaction; None where only the database can tell.

        Commits of the same few milliseconds may share one.
        """
        ...

    def dump(self, folder: Path) -> dict[str, int]:
        """Writes everything, as of one moment and while others write, into the empty ``folder``: a JSONL file a table. Returns its rows.

        What is written can be restored into any kind of database. Raises Unavailable.
        """
        ...

    def restore(self, folder: Path) -> dict[str, int]:
        """Reads what ``dump`` wrote into this database, which must be new. Raises Conflict (it is not), Corrupt, Unavailable."""
        ...
