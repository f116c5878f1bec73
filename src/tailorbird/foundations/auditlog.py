"""Is the event log what it was? Recomputes every leaf and every root, trusting nothing that is stored.

In: log entries and checkpoints. Out: the problems found, as sentences. Must not know: signatures (``access/`` checks the notes), tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tailorbird.domain.event import Checkpoint, Event, LogEntry
from tailorbird.foundations.canonical import canonical_json
from tailorbird.foundations.merkle import Frontier, leaf_hash


def event_leaf(event: Event) -> bytes:
    """The leaf hash of an event: SHA-256(0x00 ‖ its RFC 8785 JSON)."""
    return leaf_hash(canonical_json(event))


def check_entries(
    entries: Iterable[LogEntry], checkpoints: Sequence[Checkpoint], *, size: int | None = None, root: str | None = None
) -> tuple[str, ...]:
    """What is wrong with a log; empty exactly when it is intact. ``entries`` is the whole log, from index 0, and is read once, as a stream.

    Checks that indices have no gap, that each stored leaf hash is that of its event, and that the tree of each checkpoint's size has the
    checkpoint's root. ``size`` and ``root`` are what the log claims of itself (``EventLog.size``, ``.root``): they find entries that were
    cut off after the last checkpoint.
    """
    return tuple(_problems(entries, _expected(checkpoints, size, root)))


#: Size of a tree to the roots it should have, each with the name of who says so.
_Claims = dict[int, list[tuple[str, str]]]


def _expected(checkpoints: Sequence[Checkpoint], size: int | None, root: str | None) -> _Claims:
    claims: _Claims = defaultdict(list)
    for checkpoint in checkpoints:
        claims[checkpoint.size].append((checkpoint.root, f"the checkpoint at size {checkpoint.size}"))
    if size is not None and root is not None:
        claims[size].append((root, f"the log's own head at size {size}"))
    return claims


def _problems(entries: Iterable[LogEntry], claims: _Claims) -> Iterator[str]:
    frontier, expected = Frontier(), 0
    yield from _disagreements(frontier, claims)
    for entry in entries:
        if entry.index != expected:
            yield f"entry {expected} is missing: the next one found is {entry.index}"
        leaf = event_leaf(entry.event)
        if leaf.hex() != entry.leaf_hash:
            yield f"entry {entry.index} was changed: its event does not have the stored leaf hash"
        frontier, expected = frontier.append(leaf), entry.index + 1
        yield from _disagreements(frontier, claims)
    for size in sorted(claims):
        if size > frontier.size:
            yield from (f"{who} covers entries that are gone: the log has {frontier.size}" for _, who in claims[size])


def _disagreements(frontier: Frontier, claims: _Claims) -> Iterator[str]:
    if frontier.size in claims:
        actual = frontier.root().hex()
        yield from (f"{who} does not match the entries: another root" for root, who in claims[frontier.size] if root != actual)
