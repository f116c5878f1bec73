"""Snapshots: built from the files of an objective, and read back as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tailorbird.data.pipeline import SnapshotRequest, run_pipeline
from tailorbird.data.readers import row_id
from tailorbird.data.snapshot_writer import LazyRows, frozen_rows, write_snapshot
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Document, Quarantined, Row, SnapshotManifest, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.system.garbage_collection import uncollected
from tailorbird.text import label_rules
from tailorbird.text.conversations import earlier_answers
from tailorbird.text.normalisation import normalise


@dataclass(frozen=True)
class BuiltSnapshot:
    """A frozen snapshot. ``rows`` are sorted by id; ``assigned`` maps the id of every row to its (split, group), to be remembered.

    ``report`` says how raw rows became these; ``manifest.curation`` names it.
    """

    manifest: SnapshotManifest
    rows: LazyRows
    quarantined: tuple[Quarantined, ...]
    assigned: dict[Digest, tuple[str, str]]
    report: CurationReport


def build_snapshot(request: SnapshotRequest) -> BuiltSnapshot:
    """Reads, cleans, groups, splits and freezes. The same files, objective and ``known`` give the same digests; appended rows never move
    earlier ones.

    Raises DataInvalid as ``run_pipeline``, and where an example of what is out of scope bears a label, too.
    """
    with uncollected():
        return _consistent(_built(request))


def _built(request: SnapshotRequest) -> BuiltSnapshot:
    gathered = run_pipeline(request)
    frozen = write_snapshot(request, gathered)
    rows = frozen_rows(gathered.rows)
    return BuiltSnapshot(frozen.manifest, rows, gathered.quarantined, frozen.assigned, frozen.report)


def _consistent(built: BuiltSnapshot) -> BuiltSnapshot:
    """The snapshot, in which no example of what is out of scope bears a label of the task in another row. Raises DataInvalid."""
    outside = built.manifest.outside
    if outside not in built.manifest.label_counts:
        return built
    examples = {normalise(row.text): row.provenance for row in built.rows if row.target == outside}
    twice = [row for row in built.rows if row.target != outside and normalise(row.text) in examples]
    if twice:
        known, example = twice[0].provenance, examples[normalise(twice[0].text)]
        more = f", and {len(twice) - 1:,} more like it" if len(twice) > 1 else ""
        raise DataInvalid(
            f"{example.file}:{example.line}: an example of what is out of scope bears a label too, in {known.file}:{known.line}{more}",
            f"decide which it is: remove the row that bears the label, or the one that is called {outside!r}",
            code="out_of_scope_known",
        )
    return built


def load_rows(manifest: SnapshotManifest, artifacts: ArtifactStore, split: Split) -> tuple[Row, ...]:
    """The rows of one split, sorted by id: whoever wants test rows has to ask for them. Raises NotFound or Corrupt."""
    named = f'"split":"{split.value}"'.encode()  # rows are stored in the canonical form; within a text, quotation marks are escaped
    found = (Row.model_validate_json(line) for line in artifacts.get(manifest.rows).splitlines() if named in line)
    return tuple(row for row in found if row.split is split)


def group_sizes(rows: Sequence[Row], label: str | None, *, many: bool) -> tuple[int, ...]:
    """The sizes of the groups (near-duplicates, a subject) that ``rows`` fall into, or those of them that bear ``label``."""
    bearing = rows if label is None else [row for row in rows if label in (label_rules.split(row.target) if many else (row.target,))]
    return tuple(Counter(row.group for row in bearing).values())


def load_documents(manifest: SnapshotManifest, artifacts: ArtifactStore) -> tuple[Document, ...]:
    """The tenant's documents, sorted by id; none where the objective names none. Raises NotFound or Corrupt."""
    lines = artifacts.get(manifest.documents).splitlines() if manifest.documents else []
    return tuple(map(Document.model_validate_json, lines))


def load_quarantine(manifest: SnapshotManifest, artifacts: ArtifactStore) -> tuple[Quarantined, ...]:
    """What was set aside, sorted by file and line. Raises NotFound or Corrupt."""
    return tuple(map(Quarantined.model_validate_json, artifacts.get(manifest.quarantine).splitlines()))


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
