"""Units of work: one tenant's repositories, or the system's, inside one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache, partial
from pathlib import Path

from sqlalchemy import Connection, select

from tailorbird.crypto.anchored_rows import RowChanges
from tailorbird.ledger.anchors import AnchorBook, Anchors
from tailorbird.ledger.database import Database, migrate, open_database
from tailorbird.ledger.dump import dump, restore
from tailorbird.ledger.event_log import Events, LogSealer
from tailorbird.ledger.postgresql import role_script
from tailorbird.ledger.releases import Aliases, AllAliases, Judgements, Releases
from tailorbird.ledger.runs import Decisions, Looks, Queue, Records, References, Runs, Splits, Steps
from tailorbird.ledger.tables import tenants
from tailorbird.ledger.tenants import (
    AllStored,
    AllUsage,
    ApiKeys,
    DataKeys,
    Erasures,
    Gateways,
    Identities,
    Secrets,
    Sessions,
    StoredArtifacts,
    Tenants,
    Usages,
    no_tenant,
)
from tailorbird.ledger.traffic import Contents, FeedbackBook, Requests, Reviews, Rollouts, Signals
from tailorbird.ports.clock import Clock
from tailorbird.system.clock import SystemClock


class UnitOfWork:
    """One tenant's repositories inside one transaction. Nobody calls commit: leaving the block does, an exception rolls back."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges, clock: Clock, events: Events) -> None:
        at = (connection, tenant, changes, clock)
        self.tenant = tenant
        self.records = Records(*at)
        self.runs = Runs(*at)
        self.steps = Steps(*at)
        self.releases = Releases(*at)
        self.judgements = Judgements(*at)
        self.looks = Looks(*at)
        self.splits = Splits(*at)
        self.aliases = Aliases(*at)
        self.requests = Requests(*at)
        self.identities = Identities(*at)
        self.keys = ApiKeys(*at)
        self.sessions = Sessions(*at)
        self.signals = Signals(*at)
        self.decisions = Decisions(*at)
        self.erasures = Erasures(*at)
        self.secrets = Secrets(*at)
        self.data_keys = DataKeys(*at)
        self.usage = Usages(*at)
        self.storage = StoredArtifacts(*at)
        self.feedback = FeedbackBook(*at)
        self.reviews = Reviews(*at)
        self.contents = Contents(*at)
        self.rollouts = Rollouts(*at)
        self.events = events
        self.anchors = Anchors(events, connection, tenant, changes)


class SystemWork:
    """The repositories that stand above tenants, inside one transaction."""

    def __init__(self, connection: Connection, changes: RowChanges, clock: Clock, events: Events) -> None:
        at = (connection, "", changes, clock)
        self.tenants = Tenants(*at)
        self.aliases = AllAliases(*at)
        self.events = events
        self.anchors = AnchorBook(events, connection)
        self.queue = Queue(*at)
        self.usage = AllUsage(*at)
        self.stored = AllStored(*at)
        self.gateways = Gateways(*at)
        self.references = References(*at)
        self._connection, self._changes, self._clock = connection, changes, clock

    def of(self, tenant: str) -> UnitOfWork:
        """The repositories of one tenant, in the same transaction."""
        return UnitOfWork(self._connection, tenant, self._changes, self._clock, self.events)


class Ledger:
    """The record in an SQL database. Safe to share between threads.

    Opens units of work. Writers come one after another. ``write=False`` promises to change nothing, sees one state, and never waits for a
    writer; what writes all the same raises Unavailable.
    """

    def __init__(self, database: Database, clock: Clock, sealer: LogSealer | None = None) -> None:
        self._database = database
        self._clock = clock
        self._sealer = sealer
        self._key_of_words: Callable[[UnitOfWork], bytes] | None = None

    def keeping(self, key_of_words: Callable[[UnitOfWork], bytes] | None) -> Ledger:
        """The same ledger, whose units of work keep words encrypted, by the key that ``key_of_words`` gives (None: in the clear)."""
        same = copy(self)
        same._key_of_words = key_of_words
        return same

    @contextmanager
    def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> Iterator[UnitOfWork]:
        """A transaction over one tenant's repositories. Raises NotFound when the tenant does not exist, Unavailable.

        What is not ``durable`` survives the end of any process from its commit on, and the end of the machine only from the next
        ``flush`` or durable transaction on.
        """
        with self._database.writing(tenant, durable=durable) if write else self._database.reading(tenant) as connection:
            if connection.scalar(select(tenants.c.name).where(tenants.c.name == tenant)) is None:
                raise no_tenant(tenant)
            changes = RowChanges()
            events = Events(connection, tenant, changes, self._sealer)
            work = UnitOfWork(connection, tenant, changes, self._clock, events)
            if self._key_of_words is not None:
                # Asked once in a transaction: a key that it has made itself may be rolled back with it.
                work.contents.key = cache(partial(self._key_of_words, work))
            yield work
            events.anchor_rest(self._clock.now())
        events.committed()

    @contextmanager
    def system(self, *, write: bool = True) -> Iterator[SystemWork]:
        """A transaction over the system repositories. Raises Unavailable."""
        with self._database.writing() if write else self._database.reading() as connection:
            changes = RowChanges()
            events = Events(connection, None, changes, self._sealer)
            yield SystemWork(connection, changes, self._clock, events)
            events.anchor_rest(self._clock.now())
        events.committed()

    def flush(self, *, scrub: bool = False) -> None:
        """Makes durable what was committed so far. No writer waits for it. Raises Unavailable.

        With ``scrub``, what was deleted is taken out of the log of changes, too, where the database is a file and nobody reads what was
        there before; then writers may have to wait.
        """
        self._database.flush(scrub=scrub)

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """Damages to the structure of the database's file, a sentence each, at most a few; with ``thorough`` also indexes that differ from
        their tables, which takes several times as long. None where a server keeps the database. Raises Unavailable."""
        return self._database.damages(thorough=thorough)

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
    return Ledger(open_database(url, busy_seconds), clock or SystemClock(), sealer)
