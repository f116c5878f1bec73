"""Ledger in memory: units of work over one tenant's repositories, or the system's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from support.doubles.ledger.anchors import MemoryAnchorBook, MemoryAnchors
from support.doubles.ledger.data_keys import MemoryDataKeys
from support.doubles.ledger.deployment import MemoryAliasBook, MemoryAliases, MemoryRequests, MemorySignals
from support.doubles.ledger.event_log import MemoryEvents
from support.doubles.ledger.feedback import MemoryContents, MemoryFeedback, MemoryReviews
from support.doubles.ledger.identities import MemoryApiKeys, MemoryIdentities, MemorySessions
from support.doubles.ledger.label_reviews import MemoryJudgements, MemoryModelReviews
from support.doubles.ledger.provenance import MemoryDecisions, MemoryErasures, MemorySecrets
from support.doubles.ledger.quota import MemoryGateways, MemoryStorage, MemoryUsage, MemoryUsageBook
from support.doubles.ledger.records import MemoryRecords, MemoryReferences
from support.doubles.ledger.releases import MemoryLooks, MemoryReleases, MemorySplits
from support.doubles.ledger.rollouts import MemoryRollouts
from support.doubles.ledger.runs import MemoryQueue, MemoryRuns, MemorySteps
from support.doubles.ledger.tables import SYSTEM, State, Transaction, text_of
from support.doubles.ledger.tenants import TENANTS, MemoryTenants, MemoryTimeFloor
from tailorbird.domain.errors import NotFound, Unavailable
from tailorbird.ports.clock import Clock, TimeFloor
from tailorbird.ports.data_keys import DataKeyRepository
from tailorbird.ports.deployment import AliasBook, AliasRepository, RequestRepository
from tailorbird.ports.events import AuditLog, EventLog, LogSealer, RowAnchorBook, RowAnchors
from tailorbird.ports.feedback import ContentRepository, FeedbackRepository, ReviewRepository
from tailorbird.ports.identity import ApiKeyRepository, IdentityRepository, SessionRepository, TenantDirectory
from tailorbird.ports.label_reviews import JudgementRepository, ModelReviewRepository
from tailorbird.ports.ledger import SystemWork, UnitOfWork
from tailorbird.ports.provenance import DecisionRepository, ErasureRepository, SecretRepository
from tailorbird.ports.quota import GatewayDirectory, StorageRepository, UsageBook, UsageRepository
from tailorbird.ports.records import RecordRepository, ReferenceBook
from tailorbird.ports.releases import LookRepository, ReleaseRepository, SplitRepository
from tailorbird.ports.rollout import RolloutRepository
from tailorbird.ports.runs import RunRepository, StepRepository, WorkQueue
from tailorbird.ports.signals import SignalRepository

#: How long a transaction waits for another writer, in seconds.
BUSY_SECONDS = 5.0


class MemoryTenantWork:
    """Implements ``UnitOfWork``."""

    def __init__(self, transaction: Transaction, tenant: str, clock: Clock, events: MemoryEvents) -> None:
        self.tenant = tenant
        self.records: RecordRepository = MemoryRecords(transaction, tenant)
        self.runs: RunRepository = MemoryRuns(transaction, tenant)
        self.steps: StepRepository = MemorySteps(transaction, tenant, clock)
        self.releases: ReleaseRepository = MemoryReleases(transaction, tenant)
        self.judgements: JudgementRepository = MemoryJudgements(transaction, tenant)
        self.model_reviews: ModelReviewRepository = MemoryModelReviews(transaction, tenant, clock)
        self.looks: LookRepository = MemoryLooks(transaction, tenant)
        self.splits: SplitRepository = MemorySplits(transaction, tenant)
        self.aliases: AliasRepository = MemoryAliases(transaction, tenant)
        self.requests: RequestRepository = MemoryRequests(transaction, tenant)
        self.identities: IdentityRepository = MemoryIdentities(transaction, tenant)
        self.keys: ApiKeyRepository = MemoryApiKeys(transaction, tenant)
        self.sessions: SessionRepository = MemorySessions(transaction, tenant, clock)
        self.signals: SignalRepository = MemorySignals(transaction, tenant)
        self.decisions: DecisionRepository = MemoryDecisions(transaction, tenant)
        self.erasures: ErasureRepository = MemoryErasures(transaction, tenant, clock)
        self.secrets: SecretRepository = MemorySecrets(transaction, tenant)
        self.data_keys: DataKeyRepository = MemoryDataKeys(transaction, tenant)
        self.usage: UsageRepository = MemoryUsage(transaction, tenant)
        self.storage: StorageRepository = MemoryStorage(transaction, tenant)
        self.feedback: FeedbackRepository = MemoryFeedback(transaction, tenant)
        self.reviews: ReviewRepository = MemoryReviews(transaction, tenant)
        self.contents: ContentRepository = MemoryContents(transaction, tenant)
        self.rollouts: RolloutRepository = MemoryRollouts(transaction, tenant)
        self.events: EventLog = events
        self.anchors: RowAnchors = MemoryAnchors(transaction, events, tenant)


class MemorySystemWork:
    """Implements ``SystemWork``."""

    def __init__(self, transaction: Transaction, clock: Clock, events: MemoryEvents) -> None:
        self.tenants: TenantDirectory = MemoryTenants(transaction)
        self.aliases: AliasBook = MemoryAliasBook(transaction)
        self.events: AuditLog = events
        self.anchors: RowAnchorBook = MemoryAnchorBook(transaction, events)
        self.queue: WorkQueue = MemoryQueue(transaction, clock)
        self.usage: UsageBook = MemoryUsageBook(transaction)
        self.gateways: GatewayDirectory = MemoryGateways(transaction)
        self.references: ReferenceBook = MemoryReferences(transaction)
        self.floor: TimeFloor = MemoryTimeFloor(transaction)
        self.of: Callable[[str], UnitOfWork] = lambda tenant: MemoryTenantWork(transaction, tenant, clock, events)


class MemoryStore:
    """What is recorded, and the lock of whoever writes. Several ledgers may stand on one store, each with its own clock."""

    def __init__(self, state: State | None = None) -> None:
        self.state: State = state or {}
        self.commits = 0
        self._lock = threading.Lock()
        self._owner: int | None = None

    def copy(self) -> MemoryStore:
        """Another store, which begins with what this one holds."""
        return MemoryStore(self.state)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the write lock. A thread that holds it already would wait for ever: it is refused. Raises Unavailable."""
        if self._owner == threading.get_ident() or not self._lock.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("another transaction kept the ledger locked for too long", "end that transaction first", code="database_busy")
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()

    def commit(self, state: State) -> None:
        """Takes ``state`` over, where it is another."""
        if state is not self.state:
            self.state, self.commits = state, self.commits + 1


class MemoryLedger:
    """Implements ``Ledger`` in one process. Safe to share between threads. Nothing outlives the process, so nothing can be dumped."""

    def __init__(self, clock: Clock, store: MemoryStore | None = None, sealer: LogSealer | None = None) -> None:
        self.store = store or MemoryStore()
        self._clock = clock
        self._sealer = sealer

    @contextmanager
    def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> Iterator[UnitOfWork]:
        """A transaction over one tenant's repositories. Raises NotFound when the tenant does not exist, Unavailable."""
        with self._transaction(write=write) as transaction:
            if tenant not in transaction.rows(TENANTS, SYSTEM):
                raise NotFound(f"there is no tenant {tenant}", "make it with: tailorbird init --tenant", code="tenant_missing")
            events = MemoryEvents(transaction, tenant, self._sealer)
            yield MemoryTenantWork(transaction, tenant, self._clock, events)
            events.anchor_rest(self._clock.now())
        events.committed()

    @contextmanager
    def system(self, *, write: bool = True) -> Iterator[SystemWork]:
        """A transaction over the system repositories. Raises Unavailable."""
        with self._transaction(write=write) as transaction:
            events = MemoryEvents(transaction, SYSTEM, self._sealer)
            yield MemorySystemWork(transaction, self._clock, events)
            events.anchor_rest(self._clock.now())
        events.committed()

    def flush(self, *, scrub: bool = False) -> None:
        """Does nothing: no commit outlives the process."""

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """None: there is no file."""
        return ()

    def pulse(self) -> object | None:
        """The number of commits that changed something."""
        return self.store.commits

    def migrate(self) -> None:
        """Does nothing: there is no older schema."""

    def role_script(self) -> str:
        """None: it has no roles."""
        return ""

    def dump(self, folder: Path) -> dict[str, int]:
        """Raises Unavailable: a ledger in memory has no form that another database could read."""
        raise _no_backup(folder)

    def restore(self, folder: Path) -> dict[str, int]:
        """Raises Unavailable, as ``dump`` does."""
        raise _no_backup(folder)

    def close(self) -> None:
        """Does nothing: there is no connection."""

    def text(self, tenant: str | None = None) -> str:
        """Everything that is recorded, or what is recorded of ``tenant``, a line for each row: its tenant, table, key and values."""
        chosen = sorted((place, rows) for place, rows in self.store.state.items() if tenant in (None, place[0]))
        return "\n".join(text_of((*place, key, row)) for place, rows in chosen for key, row in rows.items())

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Transaction]:
        with self.store.writing() if write else nullcontext():
            transaction = Transaction(self.store.state, write=write)
            try:
                yield transaction
                if write:
                    self.store.commit(transaction.commit())
            finally:
                transaction.end()


def _no_backup(folder: Path) -> Unavailable:
    return Unavailable(f"a ledger in memory has no backup in {folder}", "keep the record in SQLite or PostgreSQL", code="ledger_in_memory")
