"""Request log: rows written many to a transaction, none lost that was acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import get_args

from tailorbird.domain.curation import WITHHELD
from tailorbird.domain.deployment import SHADOW, RequestRow
from tailorbird.domain.errors import Busy, Internal, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.feedback import KeptWords, Review
from tailorbird.domain.quota import NOTHING, Amounts, KeyPeriod, KeyUsage, Period, Usage, window_start
from tailorbird.ports.ledger import Ledger, UnitOfWork

_log = logging.getLogger("tailorbird.serving")

#: Rows in one transaction at most, so that it stays short.
_LARGEST_GROUP = 100
#: Seconds between two attempts while the ledger is busy.
_PAUSE = 0.05
#: Seconds within which a committed row is on the disk.
_FLUSH_AFTER = 1.0
#: Characters of kept words from which on they are redacted beside the rows, and threads that do so: a megabyte takes seconds, in which no
#: row of anybody would be written. Of a tenant so many wait for that; beyond them rows are written without their words.
_LONG, _REDACTORS, _BACKLOG = 4096, 2, 32
#: What passes by itself: the same rows are tried again.
_TRANSIENT = (Unavailable, Busy)
#: Takes out of a text what tells who somebody is.
Redact = Callable[[str], str]


@dataclass(frozen=True)
class KeptRequest:
    """Content kept beside a row: its text (redacted before it is written), and its place in the answer queue."""

    content: KeptWords | None = None
    review: Review | None = None


@dataclass
class _Entry:
    """A row that waits. ``words`` are those kept of it, where they have been redacted by then. ``tried``: writing it has failed, and may
    have been done all the same, as when the connection was lost after it."""

    row: RequestRow
    kept: KeptRequest | None
    committed: asyncio.Future[None]
    give_up_at: float
    tried: bool = False
    words: KeptWords | None = None

    @property
    def content(self) -> KeptWords | None:
        """Words as they were said, if any are to be kept."""
        return self.kept.content if self.kept else None


class RequestLog:
    """Group commit of request rows between ``start`` and ``stop``.

    A row that cannot be written for ``patience`` seconds is reported, never forgotten. What rows used up is counted for ``gateway``,
    where it has a name; that of API keys which are ``metered`` (by their ids) for each of them, too. Without ``redact`` no words are kept.

    A commit starts as soon as there is a row and the former commit has ended, so rows gather exactly while one is under way: no fixed
    delay when traffic is thin, large groups when it is dense. A commit does not wait for the disk and survives the end of this process;
    on SQLite the disk follows within a second (decision 0034).
    """

    def __init__(
        self,
        ledger: Ledger,
        patience: float = 5.0,
        gateway: str = "",
        redact: Redact | None = None,
        metered: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._ledger = ledger
        self._patience = patience
        self._gateway = gateway
        self._redact = redact
        self._metered = metered
        self._waiting: deque[_Entry] = deque()
        self._awake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._redactors = ThreadPoolExecutor(_REDACTORS, thread_name_prefix="redaction")
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._backlogs = Counter[str]()
        self._apart = set[asyncio.Task[None]]()
        self._unflushed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def start(self) -> None:
        """Starts writing."""
        self._tasks = [asyncio.create_task(self._write_all()), asyncio.create_task(self._flush_all())]

    async def stop(self) -> None:
        """Redacts what is still to be, writes what waits (for ``patience`` at most), flushes it, then ends."""
        while self._apart:
            await asyncio.wait(self._apart)
        self._closing = True
        self._awake.set()
        for task in self._tasks[:1]:
            await task
        for task in self._tasks[1:]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(self._flush)
        self._thread.shutdown()
        self._redactors.shutdown()

    async def record(self, row: RequestRow, kept: KeptRequest | None = None) -> None:
        """Returns once ``row`` is committed.

        Raises Unavailable when the ledger stays busy for ``patience`` seconds; what else the ledger refuses with.
        """
        await asyncio.shield(self.put(row, kept))

    def put(self, row: RequestRow, kept: KeptRequest | None = None) -> asyncio.Future[None]:
        """Enqueues ``row`` without waiting, for a caller that has gone. The future ends as ``record`` does; nobody has to await it."""
        committed = asyncio.get_running_loop().create_future()
        committed.add_done_callback(_report_loss)
        entry = _Entry(row, kept, committed, time.monotonic() + self._patience)
        is_long = self._redact and entry.content and len(entry.content.text) + len(entry.content.answer) > _LONG
        if is_long and self._backlogs[row.tenant] >= _BACKLOG:
            _log.warning("the words of %s are not kept: %d long ones of %s wait to be redacted", row.id, _BACKLOG, row.tenant)
            entry.kept = None
        if is_long and entry.content:
            self._backlogs[row.tenant] += 1
            task = asyncio.create_task(self._redact_apart(entry, entry.content))
            self._apart.add(task)
            task.add_done_callback(self._apart.discard)
        else:
            self._enqueue(entry)
        return committed

    def _enqueue(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        self._awake.set()

    async def _redact_apart(self, entry: _Entry, content: KeptWords) -> None:
        """Redacts long words, one request of a tenant at a time, and lets the row wait then."""
        try:
            async with self._turns[entry.row.tenant]:
                entry.words = await asyncio.get_running_loop().run_in_executor(self._redactors, self._redacted, content)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this row must hear of it
            entry.committed.set_exception(_unrecorded(error))
            return
        finally:
            self._backlogs[entry.row.tenant] -= 1
        entry.give_up_at = time.monotonic() + self._patience
        self._enqueue(entry)

    async def _write_all(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._awake.clear()
                await self._awake.wait()
                continue
            await self._write_group(list(islice(self._waiting, _LARGEST_GROUP)))

    async def _flush_all(self) -> None:
        """In another thread than the rows are written in: they need not wait for the disk."""
        while True:
            await self._unflushed.wait()
            await asyncio.sleep(_FLUSH_AFTER)
            self._unflushed.clear()
            await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        try:
            self._ledger.flush()
        except TailorbirdError as error:
            _log.error("request rows could not be flushed to the disk: %s", error)

    async def _write_group(self, group: list[_Entry]) -> None:
        """Writes the oldest rows, tenant by tenant; rows of a tenant whose ledger is busy stay waiting."""
        by_tenant: dict[str, list[_Entry]] = defaultdict(list)
        for entry in group:
            by_tenant[entry.row.tenant].append(entry)
        for tenant, entries in by_tenant.items():
            await self._write_rows(tenant, entries)
        self._waiting = deque(entry for entry in self._waiting if not entry.committed.done())
        if all(not entry.committed.done() for entry in group):
            await asyncio.sleep(_PAUSE)

    async def _write_rows(self, tenant: str, entries: Sequence[_Entry]) -> None:
        """Writes rows of a tenant. Where they are refused together, each is tried alone: the one that cannot be written must not fail those
        beside it."""
        error = await self._commit(tenant, entries)
        if error is not None and len(entries) > 1 and not isinstance(error, _TRANSIENT):
            for entry in entries:
                entry.tried = True  # the commit may have been done before something else failed
                await self._write_rows(tenant, [entry])
            return
        for entry in entries:
            _settle(entry, error)

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
        words = {entry.row.id: entry.words or self._redacted(entry.content) for entry in entries if entry.content and self._redact}
        with self._ledger.work(tenant, durable=False) as work:
            fresh = [entry for entry in entries if not (entry.tried and _is_there(work, entry.row))]
            rows = [entry.row for entry in fresh]
            reviews = [entry.kept.review for entry in fresh if entry.kept and entry.kept.review]
            contents = [words[row.id] for row in rows if row.id in words]
            work.requests.add(rows)
            if self._gateway:
                work.usage.add(usage_of(rows, self._gateway))
                work.usage.add_of_keys(usage_of_keys([row for row in rows if self._metered(row.key)], self._gateway))
            if reviews:
                work.reviews.add(reviews)
            if contents:
                work.contents.add(contents)

    def _redacted(self, content: KeptWords) -> KeptWords:
        """The words as they may be kept. Where they cannot be redacted they are withheld: the row is what the tenant pays by."""
        assert self._redact is not None
        try:
            words = {name: _storable(self._redact(getattr(content, name))) for name in ("text", "answer")}
        except Exception as error:  # noqa: BLE001 - whatever it is, the row is written; what the error says may hold words
            _log.warning("the words of %s are withheld: redacting them failed with %s", content.request, type(error).__name__)
            words = dict.fromkeys(("text", "answer"), WITHHELD)
        return content.model_copy(update=words)


def _storable(text: str) -> str:
    """Without what no database keeps: U+0000, and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


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


def usage_of(rows: Sequence[RequestRow], gateway: str) -> list[Usage]:
    """Amounts used by the rows, per quota window."""
    windows: dict[tuple[Period, datetime], list[RequestRow]] = defaultdict(list)
    for row in rows:
        for period in get_args(Period):
            windows[period, window_start(period, row.at)].append(row)
    summed = {window: amounts_of(inside) for window, inside in windows.items()}
    return [
        Usage(gateway=gateway, period=period, start=start, **used._asdict()) for (period, start), used in summed.items() if used != NOTHING
    ]


def usage_of_keys(rows: Sequence[RequestRow], gateway: str) -> list[KeyUsage]:
    """The same, per API key."""
    windows: dict[tuple[str, KeyPeriod, datetime], list[RequestRow]] = defaultdict(list)
    for row in rows:
        for period in get_args(KeyPeriod):
            windows[row.key, period, window_start(period, row.at)].append(row)
    summed = {window: amounts_of(inside) for window, inside in windows.items()}
    return [
        KeyUsage(key=key, gateway=gateway, period=period, start=start, **used._asdict())
        for (key, period, start), used in summed.items()
        if used != NOTHING
    ]


def _unrecorded(error: Exception) -> Internal:
    """What is told of a row that cannot be written, by a defect."""
    _log.error("rows could not be written, by a defect", exc_info=error)
    return Internal("the request could not be recorded, so its answer is not given", "look at the log", code="record_defect")


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
    entry.tried = error is not None
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
            )
        )


def _report_loss(committed: asyncio.Future[None]) -> None:
    """Looks at the outcome, so that a row nobody waits for is not lost in silence."""
    if not committed.cancelled() and (error := committed.exception()) is not None:
        _log.error("a request row was not written: %s", error)
