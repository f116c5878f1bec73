"""Writes the rows that requests leave: many in one transaction, none lost that was acknowledged.

In: request rows. Out: rows in the ledger. A commit starts as soon as there is a row and the former commit has ended, so rows gather exactly
while one is under way: no fixed delay when traffic is thin, large groups when it is dense. Must not know: SQL, HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Busy, TailorbirdError, Unavailable
from tailorbird.ports.ledger import Ledger

_log = logging.getLogger("tailorbird.serving")

#: Rows in one transaction at most, so that it stays short.
_LARGEST_GROUP = 100
#: Seconds between two attempts while the ledger is busy.
_PAUSE = 0.05


@dataclass(frozen=True)
class _Entry:
    row: RequestRow
    committed: asyncio.Future[None]
    give_up_at: float


class RequestJournal:
    """Group commit of request rows between ``start`` and ``stop``.

    A row that cannot be written for ``patience`` seconds is reported, never forgotten.
    """

    def __init__(self, ledger: Ledger, patience: float = 5.0) -> None:
        self._ledger = ledger
        self._patience = patience
        self._waiting: deque[_Entry] = deque()
        self._awake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        """Begins to write."""
        self._task = asyncio.create_task(self._write_all())

    async def stop(self) -> None:
        """Writes what is still waiting (for ``patience`` at most), then ends."""
        self._closing = True
        self._awake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def record(self, row: RequestRow) -> None:
        """Returns once ``row`` is committed.

        Raises Unavailable when the ledger stays busy for ``patience`` seconds; what else the ledger refuses with.
        """
        await asyncio.shield(self.put(row))

    def put(self, row: RequestRow) -> asyncio.Future[None]:
        """Hands ``row`` over without waiting: for a caller that has gone. The future ends as ``record`` does; nobody has to look at it."""
        committed = asyncio.get_running_loop().create_future()
        committed.add_done_callback(_report_loss)
        self._waiting.append(_Entry(row, committed, time.monotonic() + self._patience))
        self._awake.set()
        return committed

    async def _write_all(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._awake.clear()
                await self._awake.wait()
                continue
            await self._write_group(list(islice(self._waiting, _LARGEST_GROUP)))

    async def _write_group(self, group: list[_Entry]) -> None:
        """Writes the oldest rows, tenant by tenant; rows of a tenant whose ledger is busy stay waiting."""
        by_tenant: dict[str, list[_Entry]] = defaultdict(list)
        for entry in group:
            by_tenant[entry.row.tenant].append(entry)
        for tenant, entries in by_tenant.items():
            error = await self._commit(tenant, [entry.row for entry in entries])
            for entry in entries:
                _settle(entry, error)
        self._waiting = deque(entry for entry in self._waiting if not entry.committed.done())
        if all(not entry.committed.done() for entry in group):
            await asyncio.sleep(_PAUSE)

    async def _commit(self, tenant: str, rows: Sequence[RequestRow]) -> TailorbirdError | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._add, tenant, rows)
        except TailorbirdError as error:
            return error
        return None

    def _add(self, tenant: str, rows: Sequence[RequestRow]) -> None:
        with self._ledger.work(tenant) as work:
            work.requests.add(rows)


def _settle(entry: _Entry, error: TailorbirdError | None) -> None:
    """Tells who waits for the row how it ended; says nothing while another attempt is due."""
    if entry.committed.done():
        return
    if error is None:
        entry.committed.set_result(None)
    elif not isinstance(error, Unavailable | Busy):
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
