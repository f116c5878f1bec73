"""Items that a candidate answers: the rows of a split, or each answer of the assistant in those that are conversations.

A conversation is one row, so that all of it lies in one split; its items share the row's group, so that intervals count it once. An answer
that is learned in train, or measured in a split before, word for word behind the same words, is no item of a later split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tailorbird.data.readers import row_id
from tailorbird.data.snapshot import load_rows
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.text.conversations import earlier_answers


def load_items(manifest: SnapshotManifest, artifacts: ArtifactStore, split: Split) -> tuple[Row, ...]:
    """The items of one split of a stored snapshot. Raises NotFound or Corrupt."""
    return items_of_split(manifest, lambda each: load_rows(manifest, artifacts, each), split)


def items_of_split(manifest: SnapshotManifest, rows_of: Callable[[Split], Sequence[Row]], split: Split) -> tuple[Row, ...]:
    """The items of one split in the order of its rows, which ``rows_of`` gives. An item's id is the digest of its text and answer, as a
    row's, and no two share one."""
    rows = rows_of(split)
    if manifest.answers == "last":
        return tuple(rows)
    before = tuple(Split)[: tuple(Split).index(split)]
    seen = {item.id for each in before for row in rows_of(each) for item in answer_items(row, manifest)}
    return tuple(_distinct(rows, manifest, seen))


def answer_items(row: Row, manifest: SnapshotManifest) -> Iterator[Row]:
    """Every answer in ``row`` that is measured, in the order in which they were given; the last is the row itself."""
    if manifest.answers != "last":
        for text, answer in earlier_answers(row.text, calls=manifest.answers == "all"):
            yield row.model_copy(update={"id": row_id(text, answer), "text": text, "target": answer})
    yield row


def _distinct(rows: Sequence[Row], manifest: SnapshotManifest, seen: set[Digest]) -> Iterator[Row]:
    """Each item once, and none that was ``seen``; what is a row of its own is that row's."""
    own = {row.id for row in rows}
    for row in rows:
        for item in answer_items(row, manifest):
            if item.id not in seen and (item.id not in own or item.id == row.id):
                seen.add(item.id)
                yield item
