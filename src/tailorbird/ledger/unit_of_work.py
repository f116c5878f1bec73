"""Units of work: one tenant's repositories, or the system's, inside one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.domain.errors import NotFound
from tailorbird.ledger.anchors import Anchors
from tailorbird.ledger.data_keys import DataKeys
from tailorbird.ledger.database import Database, migrate, open_database
from tailorbird.ledger.deployment import Aliases, Requests, Signals
from tailorbird.ledger.dump import dump, restore
from tailorbird.ledger.event_log import Events
from tailorbird.ledger.feedback import Contents, FeedbackBook, Reviews
from tailorbird.ledger.identities import ApiKeys, Identities, Sessions
from tailorbird.ledger.label_reviews import Judgements, ModelReviews
from tailorbird.ledger.privileges import role_script
from tailorbird.ledger.provenance import Decisions, Erasures, Secrets
from tailorbird.ledger.quota import StoredArtifacts, Usages
from tailorbird.ledger.records import Records
from tailorbird.ledger.releases import Looks, Releases, Splits
from tailorbird.ledger.rollouts import Rollouts
from tailorbird.ledger.runs import Runs, Steps
from tailorbird.ledger.system_repositories import system_over
from tailorbird.ledger.tables import tenants
from tailorbird.ports.clock import Clock
from tailorbird.ports.data_keys import DataKeyRepository
from tailorbird.ports.deployment import AliasRepository, RequestRepository
from tailorbird.ports.events import EventLog, LogSealer, RowAnchors
from tailorbird.ports.feedback import ContentRepository, FeedbackRepository, ReviewRepository
from tailorbird.ports.identity import ApiKeyRepository, IdentityRepository, SessionRepository
from tailorbird.ports.label_reviews import JudgementRepository, ModelReviewRepository
from tailorbird.ports.ledger import Ledger, SystemWork, UnitOfWork
from tailorbird.ports.provenance import DecisionRepository, ErasureRepository, SecretRepository
from tailorbird.ports.quota import StorageRepository, UsageRepository
from tailorbird.ports.records import RecordRepository
from tailorbird.ports.releases import LookRepository, ReleaseRepository, SplitRepository
from tailorbird.ports.rollout import RolloutRepository
from tailorbird.ports.runs import RunRepository, StepRepository
from tailorbird.ports.signals import SignalRepository
from tailorbird.system.clock import SystemClock


@dataclass
class TenantWork:
    """Implements ``UnitOfWork``."""

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


class SqlLedger:
    """Implements ``Ledger`` on an SQL database. Safe to share between threads."""

    def __init__(self, database: Database, clock: Clock, sealer: LogSealer | None = None) -> None:
        self._database = database
        self._clock = clock
        self._sealer = sealer

    @contextmanager
    def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> Iterator[UnitOfWork]:
        """A transaction over one tenant's repositories. Raises NotFound when the tenant does not exist, Unavailable."""
        with self._database.writing(tenant, durable=durable) if write else self._database.reading(tenant) as connection:
            _require(connection, tenant)
            changes = RowChanges()
            events = Events(connection, tenant, changes, self._sealer)
            yield _work_of(connection, tenant, self._clock, changes, events)
            events.anchor_rest(self._clock.now())
        events.committed()

    @contextmanager
    def system(self, *, write: bool = True) -> Iterator[SystemWork]:
        """A transaction over the system repositories. Raises Unavailable."""
        with self._database.writing() if write else self._database.reading() as connection:
            changes = RowChanges()
            events = Events(connection, None, changes, self._sealer)

            def of(tenant: str) -> UnitOfWork:
                return _work_of(connection, tenant, self._clock, changes, events)

            yield system_over(connection, self._clock, changes, events, of)
            events.anchor_rest(self._clock.now())
        events.committed()

    def flush(self, *, scrub: bool = False) -> None:
        """Makes durable what was committed so far. Raises Unavailable."""
        self._database.flush(scrub=scrub)

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """Damages to the structure of the database's file; none where a server keeps it. Raises Unavailable."""
        return self._database.damages(thorough=thorough)

    def pulse(self) -> object | None:
        """Token that changes with every commit; None where only the database can tell."""
        return self._database.pulse()

    def migrate(self) -> None:
        """Makes the database where there is none, and its tables. Raises Unavailable."""
        migrate(self._database)

    def dump(self, folder: Path) -> dict[str, int]:
        """Writes everything, as of one moment, into the empty ``folder``. Returns rows a table. Raises Conflict, Unavailable."""
        return dump(self._database, folder)

    def restore(self, folder: Path) -> dict[str, int]:
        """Reads what ``dump`` wrote into this database, which must be new. Raises Conflict (it is not), Corrupt, Unavailable."""
        return restore(self._database, folder)

    def role_script(self) -> str:
        """SQL that makes the roles of gateway and worker; empty where the database has no roles."""
        return role_script() if self._database.has_roles else ""

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()


def open_ledger(url: str, clock: Clock | None = None, sealer: LogSealer | None = None, busy_seconds: float | None = None) -> Ledger:
    """The ledger in the database at ``url`` (``sqlite:///path``, ``postgresql://user:password@host/database``). Connects to nothing yet.

    Raises InvalidInput, and Unavailable when the database's driver is not installed.

    ``clock`` tells when a lease or a session has expired; the machine's own by default. ``sealer`` signs the head of the log; without one
    it is neither signed nor checked. ``busy_seconds``: how long a transaction waits for another writer; 30 by default.
    """
    return SqlLedger(open_database(url, busy_seconds), clock or SystemClock(), sealer)


def _require(connection: Connection, tenant: str) -> None:
    if connection.scalar(select(tenants.c.name).where(tenants.c.name == tenant)) is None:
        raise NotFound(f"there is no tenant {tenant}", "make it with: tailorbird init --tenant", code="tenant_missing")


def _work_of(connection: Connection, tenant: str, clock: Clock, changes: RowChanges, events: Events) -> TenantWork:
    return TenantWork(
        tenant=tenant,
        records=Records(connection, tenant, changes),
        runs=Runs(connection, tenant, changes),
        steps=Steps(connection, tenant, clock, changes),
        releases=Releases(connection, tenant, changes),
        judgements=Judgements(connection, tenant, changes),
        model_reviews=ModelReviews(connection, tenant, clock, changes),
        looks=Looks(connection, tenant, changes),
        splits=Splits(connection, tenant, changes),
        aliases=Aliases(connection, tenant, changes),
        requests=Requests(connection, tenant),
        identities=Identities(connection, tenant, changes),
        keys=ApiKeys(connection, tenant, changes),
        sessions=Sessions(connection, tenant, clock, changes),
        signals=Signals(connection, tenant),
        decisions=Decisions(connection, tenant, changes),
        erasures=Erasures(connection, tenant, clock, changes),
        secrets=Secrets(connection, tenant, changes),
        data_keys=DataKeys(connection, tenant),
        usage=Usages(connection, tenant),
        storage=StoredArtifacts(connection, tenant, changes),
        feedback=FeedbackBook(connection, tenant),
        reviews=Reviews(connection, tenant),
        contents=Contents(connection, tenant),
        rollouts=Rollouts(connection, tenant, changes),
        events=events,
        anchors=Anchors(events, connection, tenant, changes),
    )
