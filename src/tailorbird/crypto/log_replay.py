"""Replay of the event log: the rows of every tenant as its events leave them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tailorbird.crypto.anchored_rows import EVERY_ROW, row_text
from tailorbird.crypto.state_tree import place_of, root_over
from tailorbird.domain.event import AnchoredRow, LogEntry, LogHead
from tailorbird.domain.value import Digest


class LogReplay:
    """Takes entries in order. ``rows`` are the digests by tenant and name."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Digest]] = {}

    def take(self, entry: LogEntry) -> None:
        """Applies what an entry says of rows."""
        event = entry.event
        if not event.rows:
            return
        rows = self.rows.setdefault(event.tenant, {})
        if EVERY_ROW in event.rows:
            rows.clear()
        for name, digest in event.rows.items():
            if digest is not None:
                rows[name] = digest
            elif name != EVERY_ROW:
                rows.pop(name, None)

    def state(self) -> str:
        """The root over all rows, in hex."""
        return root_over({place_of(tenant, name): digest for tenant, rows in self.rows.items() for name, digest in rows.items()})

    def differing(self, tenant: str, found: Iterable[AnchoredRow], where: str) -> Iterator[str]:
        """What is wrong with the rows of a tenant as ``where`` holds them."""
        expected = dict(self.rows.get(tenant, {}))
        for row in found:
            told = expected.pop(row.name, None)
            if told is None:
                yield f"{where} of {tenant}: {row_text(row.name)} is there, and the log does not know it"
            elif told != row.digest:
                yield f"{where} of {tenant}: {row_text(row.name)} is not what the log says"
        yield from (f"{where} of {tenant}: {row_text(name)} is gone, and the log does not say so" for name in expected)


def head_problems(replay: LogReplay, head: LogHead) -> Iterator[str]:
    """What is wrong with the state that a head claims."""
    if replay.state() != head.state:
        yield "the head of the log stands for other rows than its entries anchor"
