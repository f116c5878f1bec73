"""Request log: rows written many to a transaction, none lost that was acknowledged.

The row of a stream is opened before its first piece is sent, with the most that it may use and cost, and settled when it ends: whatever
fails in between, and even where this process dies, it stands and is charged.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args

from tailorbird.domain.curation import WITHHELD
from tailorbird.domain.deployment import OPEN_ROW, SHADOW, RequestRow
from tailorbird.domain.errors import Busy, Internal, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.feedback import KeptWords, Review
from tailorbird.domain.identity import NOTHING, Amounts, KeyPeriod, Period, Usage, window_start
from tailorbird.ledger import Ledger, UnitOfWork
from tailorbird.system.background_loop import BackgroundLoop, place_of

_log = logging.getLogger("tailorbird.serving")

#: Seconds for which it is tried to write a row.
PATIENCE = 5.0
#: Rows in one transaction at most, so that it stays short.
_LARGEST_GROUP = 100
#: Seconds between two attempts while the ledger is busy.
_PAUSE = 0.05
#: Seconds that the end waits for beside the patience with rows.
_END_WITHIN = 5.0
#: Seconds within which a committed row is on the disk.
_FLUSH_AFTER = 1.0
#: Characters of kept words from which on they are redacted beside the rows, and threads that do so: a megabyte takes seconds, in which no
#: row of anybody would be written. Of a tenant so many wait for that; beyond them rows are written without their words.
_LONG, _REDACTORS, _BACKLOG = 4096, 2, 32
#: What passes by itself: the same rows are tried again.
_TRANSIENT = (Unavailable, Busy)
#: Seconds after which who was told that the record is away may ask again.
_RETRY_AFTER = 5.0
#: Codes of a record that nobody can write for the moment.
_RECORD_AWAY = frozenset({"database_busy", "database_unreachable"})
#: Takes out of a text what tells who somebody is.
Redact = Callable[[str], str]


@dataclass(frozen=True)
class KeptRequest:
    """Content kept beside a row: its text (redacted before it is written), and its place in the answer queue."""

    content: KeptWords | None = None
    review: Review | None = None


@dataclass(eq=False)
class _Entry:
    """A row that waits; ``opened`` is that of the open row that it settles. ``redacted``: its words are ready to be kept. ``tried``:
    writing it has failed, and may have been done all the same, as when the connection was lost after it."""

    row: RequestRow
    kept: KeptRequest
    committed: asyncio.Future[None]
    opened: _Entry | None
    give_up_at: float = 0.0
    redacted: bool = False
    tried: bool = False

    @property
    def length(self) -> int:
        """Characters of the words that are to be kept."""
        return len(self.kept.content.text) + len(self.kept.content.answer) if self.kept.content else 0

    @property
    def settles(self) -> bool:
        """True where a row stands that this one settles."""
        return self.opened is not None and self.opened.committed.done() and self.opened.committed.exception() is None


class RequestLog:
    """Group commit of request rows between ``start`` and ``stop``.

    A row that cannot be written for ``patience`` seconds (``PATIENCE`` by default) is reported, never forgotten; one that settles another
    is tried until the end. What rows used up is counted for ``gateway``, where it has a name, by tenant
    and by API key. Without ``redact`` no words are kept.

    A commit starts as soon as there is a row and the former commit has ended, so rows gather exactly while one is under way: no fixed
    delay when traffic is thin, large groups when it is dense. A commit does not wait for the disk and survives the end of this process;
    on SQLite the disk follows within a second.
    """

    def __init__(
        self,
        ledger: Ledger,
        patience: float | None = None,
        gateway: str = "",
        redact: Redact | None = None,
    ) -> None:
        self._ledger = ledger
        self._patience = PATIENCE if patience is None else patience
        self._gateway = gateway
        self._redact = redact
        self._waiting: deque[_Entry] = deque()
        self._awake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._redactors = ThreadPoolExecutor(_REDACTORS, thread_name_prefix="redaction")
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._backlogs = Counter[str]()
        self._apart = set[asyncio.Task[None]]()
        self._unflushed = asyncio.Event()
        #: Open rows by the id of their request.
        self._open: dict[str, _Entry] = {}
        self._closing = False
        self.loops = (BackgroundLoop("request rows", self._write_some), BackgroundLoop("flush of request rows", self._flush_some))

    async def start(self) -> None:
        """Starts writing."""
        for loop in self.loops:
            loop.start()

    async def stop(self) -> None:
        """Redacts what is still to be, writes what waits (for ``patience`` at most), flushes it, then ends."""
        while self._apart:
            await asyncio.wait(self._apart)
        self._closing = True
        for entry in self._waiting:
            entry.give_up_at = min(entry.give_up_at, self._deadline(entry))
        self._awake.set()
        rows, flush = self.loops
        await rows.stop(within=2 * self._patience + _END_WITHIN)
        await flush.stop()
        try:
            await asyncio.to_thread(self._ledger.flush)
        except TailorbirdError as error:
            flush.failed(error)
        self._thread.shutdown()
        self._redactors.shutdown()

    async def record(self, row: RequestRow, kept: KeptRequest | None = None) -> None:
        """Returns once ``row`` is committed, or where it settles one that stands, after ``patience`` seconds.

        Raises Unavailable when the ledger stays busy for ``patience`` seconds; what else the ledger refuses with.
        """
        entry = self._put(row, kept)
        if entry.settles:
            await asyncio.wait({entry.committed}, timeout=self._patience)
        else:
            await asyncio.shield(entry.committed)

    def put(self, row: RequestRow, kept: KeptRequest | None = None) -> asyncio.Future[None]:
        """Enqueues ``row``, which settles the open one of its request, if there is one; without waiting, for a caller that has gone. The
        future ends as ``record`` does; nobody has to await it."""
        return self._put(row, kept).committed

    def _put(self, row: RequestRow, kept: KeptRequest | None) -> _Entry:
        committed = asyncio.get_running_loop().create_future()
        committed.add_done_callback(_report_loss)
        entry = _Entry(row, kept or KeptRequest(), committed, self._open.pop(row.id, None))
        entry.give_up_at = self._deadline(entry)
        if row.outcome == OPEN_ROW:
            self._open[row.id] = entry
        is_long = self._redact and entry.length > _LONG
        if is_long and self._backlogs[row.tenant] >= _BACKLOG:
            _log.warning("the words of %s are not kept: %d long ones of %s wait to be redacted", row.id, _BACKLOG, row.tenant)
            entry.kept = replace(entry.kept, content=None)
            is_long = False
        if is_long:
            self._backlogs[row.tenant] += 1
            task = asyncio.create_task(self._redact_apart(entry))
            self._apart.add(task)
            task.add_done_callback(self._apart.discard)
        else:
            self._enqueue(entry)
        return entry

    def _deadline(self, entry: _Entry) -> float:
        return math.inf if entry.settles and not self._closing else time.monotonic() + self._patience

    def _enqueue(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        self._awake.set()

    async def _redact_apart(self, entry: _Entry) -> None:
        """Redacts long words, one request of a tenant at a time, and lets the row wait then."""
        try:
            async with self._turns[entry.row.tenant]:
                await asyncio.get_running_loop().run_in_executor(self._redactors, self._redact_words, entry)
        finally:
            self._backlogs[entry.row.tenant] -= 1
            entry.give_up_at = self._deadline(entry)
            self._enqueue(entry)

    async def _write_some(self) -> bool:
        """Writes the oldest rows; False once none is to come."""
        if not self._waiting and not self._closing:
            self._awake.clear()
            await self._awake.wait()
        oldest = [self._waiting.popleft() for _ in range(min(_LARGEST_GROUP, len(self._waiting)))]
        group = [entry for entry in oldest if not entry.committed.done()]
        try:
            await self._write_group(group)
        finally:
            left = [entry for entry in group if not entry.committed.done()]
            self._waiting.extend(left)
        if left and len(left) == len(group):
            await asyncio.sleep(_PAUSE)
        return bool(self._waiting) or not self._closing

    async def _flush_some(self) -> None:
        """In another thread than the rows are written in: they need not wait for the disk."""
        await self._unflushed.wait()
        await asyncio.sleep(_FLUSH_AFTER)
        self._unflushed.clear()
        await asyncio.to_thread(self._ledger.flush)

    async def _write_group(self, group: Sequence[_Entry]) -> None:
        """Writes rows, tenant by tenant; those of a tenant whose ledger is busy stay waiting. The write lock is everybody's: where it
        is not to be had, nobody else is tried, and all who have waited long enough are told."""
        by_tenant: dict[str, list[_Entry]] = defaultdict(list)
        for entry in group:
            by_tenant[entry.row.tenant].append(entry)
        for tenant, entries in by_tenant.items():
            error = await self._write_rows(tenant, entries)
            if error is not None and error.error_code in _RECORD_AWAY:
                for entry in (*group, *self._waiting):
                    _settle(entry, error)
                return

    async def _write_rows(self, tenant: str, entries: Sequence[_Entry]) -> TailorbirdError | None:
        """Writes rows of a tenant. Where they are refused together, each is tried alone: the one that cannot be written must not fail those
        beside it; and that one without its words, which may be what cannot be written. Returns the error of the last attempt."""
        error = await self._commit(tenant, entries)
        for entry in entries:
            entry.tried |= error is not None  # the commit may have been done before something else failed
        if error is not None and not isinstance(error, _TRANSIENT):
            if len(entries) > 1:
                for entry in entries:
                    error = await self._write_rows(tenant, [entry])
                    if error is not None and error.error_code in _RECORD_AWAY:
                        break  # each of the others would wait for the lock, too
                return error
            if entries[0].kept.content is not None:
                entries[0].kept = replace(entries[0].kept, content=None)
                error = await self._commit(tenant, entries)
        for entry in entries:
            _settle(entry, error)
        return error

    async def _commit(self, tenant: str, entries: Sequence[_Entry]) -> TailorbirdError | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._add, tenant, entries)
        except TailorbirdError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for these rows must hear of it, and the others go on
            return _unrecorded(error)
        self._unflushed.set()
        return None

    def _add(self, tenant: str, entries: Sequence[_Entry]) -> None:
        # Detectors take their time: they are asked before the transaction begins.
        for entry in entries:
            self._redact_words(entry)
        with self._ledger.work(tenant, durable=False) as work:
            settled = [entry for entry in entries if entry.opened and work.requests.settle(entry.row)]
            new = [
                entry for entry in entries if entry not in settled and not ((entry.tried or entry.opened) and _is_there(work, entry.row))
            ]
            fresh = [entry.row for entry in (*settled, *new)]
            instead_of = [entry.opened.row for entry in settled if entry.opened]
            reviews = [entry.kept.review for entry in (*settled, *new) if entry.kept.review]
            contents = [entry.kept.content for entry in (*settled, *new) if entry.kept.content]
            work.requests.add([entry.row for entry in new])
            if self._gateway:
                work.usage.add(usage_of(fresh, self._gateway, instead_of))
            if reviews:
                work.reviews.add(reviews)
            if contents:
                work.contents.add(contents)

    def _redact_words(self, entry: _Entry) -> None:
        """Redacts the words of an entry, once; without ``redact`` they are not kept."""
        if not entry.redacted and entry.kept.content is not None:
            entry.kept = replace(entry.kept, content=self._redacted(entry.kept.content) if self._redact else None)
            entry.redacted = True

    def _redacted(self, content: KeptWords) -> KeptWords:
        """The words as they may be kept. Where they cannot be redacted they are withheld: the row is what the tenant pays by."""
        assert self._redact is not None
        try:
            redacted = {name: self._redact(getattr(content, name)) for name in ("text", "answer")}
            # No database keeps U+0000, and halves of surrogate pairs.
            words = {name: text.replace("\x00", "").encode("utf-8", "replace").decode() for name, text in redacted.items()}
        except Exception as error:  # noqa: BLE001 - whatever it is, the row is written; what the error says may hold words
            _log.warning("the words of %s are withheld: redacting them failed with %s", content.request, type(error).__name__)
            words = dict.fromkeys(("text", "answer"), WITHHELD)
        return content.model_copy(update=words)


def counts(row: RequestRow) -> bool:
    """True for a request charged to its tenant: answered by a release, and not as shadow traffic."""
    return row.release is not None and row.arm != SHADOW


def amounts_of(rows: Sequence[RequestRow]) -> Amounts:
    """Amounts used by the rows."""
    charged = [row for row in rows if counts(row)]
    return Amounts(
        len(charged),
        sum(row.prompt_tokens for row in charged),
        sum(row.completion_tokens for row in charged),
        sum(row.cost for row in charged),
    )


def usage_of(rows: Sequence[RequestRow], gateway: str, instead_of: Sequence[RequestRow] = ()) -> list[Usage]:
    """Amounts used by the rows, per quota window of the tenant and of each API key, less those of the open rows that they settle."""
    found: dict[tuple[str, Period | KeyPeriod, datetime], tuple[list[RequestRow], list[RequestRow]]] = defaultdict(lambda: ([], []))
    for place, some in enumerate((rows, instead_of)):
        for row in some:
            for key, periods in {"": get_args(Period), row.key: get_args(KeyPeriod)}.items():
                for period in periods:
                    found[key, period, window_start(period, row.at)][place].append(row)
    summed = {window: amounts_of(now).minus(amounts_of(before)) for window, (now, before) in found.items()}
    return [
        Usage(gateway=gateway, key=key, period=period, start=start, **used._asdict())
        for (key, period, start), used in summed.items()
        if used != NOTHING
    ]


def _unrecorded(error: Exception) -> Internal:
    """What is told of a row that cannot be written, by a defect."""
    _log.error("rows could not be written, by a defect: %s", place_of(error))
    return Internal("the request could not be recorded, so its answer is not given", "look at the log")


def _is_there(work: UnitOfWork, row: RequestRow) -> bool:
    try:
        work.requests.get(row.id)
    except NotFound:
        return False
    return True


def _settle(entry: _Entry, error: TailorbirdError | None) -> None:
    """Tells who waits for the row how it ended; says nothing while another attempt is due."""
    if entry.committed.done():
        return
    if error is None:
        entry.committed.set_result(None)
    elif not isinstance(error, _TRANSIENT):
        entry.committed.set_exception(error)
    elif time.monotonic() >= entry.give_up_at:
        entry.committed.set_exception(
            Unavailable(
                "the request could not be recorded, so its answer is not given",
                "the ledger is busy or away: try again; if it lasts, the operator looks at the database",
                code="record_unavailable",
                retry_after=_RETRY_AFTER,
            )
        )


def _report_loss(committed: asyncio.Future[None]) -> None:
    """Looks at the outcome, so that a row nobody waits for is not lost in silence."""
    if not committed.cancelled() and (error := committed.exception()) is not None:
        _log.error("a request row was not written: %s", error)
