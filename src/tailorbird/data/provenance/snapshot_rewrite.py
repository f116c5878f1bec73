"""Snapshot rewrite: a snapshot from a snapshot, without removed rows and documents and with changed labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import starmap

from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.data.provenance.croissant import redescribed
from tailorbird.data.provenance.merkle_seal import MemberHashes, head, salt_of, seal_documents, stored
from tailorbird.data.split_assignment import labels_of
from tailorbird.domain.dataset import Document, Quarantined, Row, ShiftedPart, SnapshotManifest, Split, SplitCounts
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore

#: What becomes of a row: another one, or why it goes.
Change = Callable[[Row], Row | Quarantined]


NO_DOCUMENTS: Mapping[str, Quarantined] = {}


@dataclass(frozen=True)
class SnapshotRewrite:
    """``manifest`` is the new snapshot. ``gone`` are rows that went, ``changed`` those that are others now, old and new."""

    manifest: SnapshotManifest
    gone: list[Row]
    changed: list[tuple[Row, Row]]


def stored_rows(manifest: SnapshotManifest, artifacts: ArtifactStore) -> Iterator[bytes]:
    """The rows as they are stored, one after the other, sorted by id. Raises NotFound, Corrupt."""
    yield from artifacts.get(manifest.rows).splitlines()


def rows_of_subject(manifest: SnapshotManifest, artifacts: ArtifactStore, subject: str) -> tuple[Row, ...]:
    """The rows that carry the pseudonym ``subject``; only lines that name it are parsed."""
    sought = json.dumps(subject).encode()
    found = (Row.model_validate_json(line) for line in stored_rows(manifest, artifacts) if sought in line)
    return tuple(row for row in found if row.provenance.subject == subject)


def documents_of_subject(manifest: SnapshotManifest, artifacts: ArtifactStore, subject: str) -> tuple[Document, ...]:
    """The documents that carry the pseudonym ``subject``."""
    lines = artifacts.get(manifest.documents).splitlines() if manifest.documents else []
    sought = json.dumps(subject).encode()
    found = (Document.model_validate_json(line) for line in lines if sought in line)
    return tuple(each for each in found if each.provenance is not None and each.provenance.subject == subject)


def rewrite_snapshot(
    manifest: SnapshotManifest,
    artifacts: ArtifactStore,
    change: Change,
    secret: bytes,
    documents: Mapping[str, Quarantined] = NO_DOCUMENTS,
) -> SnapshotRewrite:
    """The snapshot without or with other rows as ``change`` says, and without ``documents``, by id. The same change gives the same digests.

    A row that becomes one that is there already goes. Raises DataInvalid when a split would be left without rows.
    """
    kept, gone = _Kept(manifest), list[tuple[Row, Quarantined]]()
    moved: list[tuple[Row, Row]] = []
    for line in stored_rows(manifest, artifacts):
        row = Row.model_validate_json(line)
        after = change(row)
        if isinstance(after, Quarantined):
            gone.append((row, after))
        elif after.id != row.id:
            moved.append((row, after))
        else:
            kept.add(after, line)
    repeated = [(row, _repeats(after)) for row, after in moved if after.id in kept.lines]
    changed = [(row, after) for row, after in moved if after.id not in kept.lines]
    for _, after in changed:
        kept.add(after, canonical_json(after))
    gone += repeated
    return SnapshotRewrite(kept.freeze(artifacts, [why for _, why in gone], secret, documents), [row for row, _ in gone], changed)


def _repeats(row: Row) -> Quarantined:
    place = row.provenance
    return Quarantined(file=place.file, line=place.line, code="duplicate", reason="with its new label it repeats another row")


class _Kept:
    """The rows of the new snapshot, and what its manifest says of them."""

    def __init__(self, old: SnapshotManifest) -> None:
        self.lines: dict[Digest, bytes] = {}
        self._old = old
        self._task = _task_of(old)
        self._splits: Counter[Split] = Counter()
        self._labels: Counter[tuple[str, Split]] = Counter()
        self._lengths: list[int] = []
        self._sets: set[str] = set()
        self._shifted: Counter[tuple[str | None, Split]] = Counter()
        self._expires: date | None = None

    def add(self, row: Row, line: bytes) -> None:
        """Takes a row, as it will be stored."""
        self.lines[row.id] = line
        self._splits[row.split] += 1
        self._lengths.append(len(row.text))
        if until := row.provenance.retain_until:
            self._expires = min(until, self._expires or until)
        labels = labels_of(row.target, self._task)
        self._labels.update((label, row.split) for label in labels)
        if row.shifted:
            self._shifted.update((label, row.split) for label in (None, *labels))
        if self._old.label_sets and row.split is Split.TRAIN:
            self._sets.add(row.target)

    def freeze(
        self, artifacts: ArtifactStore, reasons: list[Quarantined], secret: bytes, documents: Mapping[str, Quarantined]
    ) -> SnapshotManifest:
        """Stores rows, quarantine and seal, and returns the manifest. Raises DataInvalid when a split is empty."""
        if not all(self._splits[split] > self._shifted[None, split] for split in Split):
            hint = "bring more rows in the source files, and adapt again: a snapshot needs rows to learn from and to measure on"
            raise DataInvalid("without these rows a split would be empty", hint, code="split_empty")
        salt, ordered = salt_of(secret, self._old.objective), [self.lines[row] for row in sorted(self.lines)]
        seal = stored(starmap(MemberHashes(salt).member, self.lines.items()))
        more = [*reasons, *documents.values()]
        quarantine = sorted([*artifacts.get(self._old.quarantine).splitlines(), *map(canonical_json, more)], key=_place)
        lengths = sorted(self._lengths)
        rows = artifacts.put(b"".join(line + b"\n" for line in ordered))
        described = redescribed(artifacts.get(self._old.metadata), rows, len(ordered)) if self._old.metadata else None
        update = {
            "rows": rows,
            "metadata": artifacts.put(described) if described else None,
            "quarantine": artifacts.put(b"".join(line + b"\n" for line in quarantine)),
            "quarantined": len(quarantine),
            "removed": self._old.removed + len(reasons),
            "counts": _counts(self._splits),
            "label_counts": self._label_counts(),
            "label_sets": tuple(sorted(self._sets)),
            "text_length_p95": lengths[(95 * len(lengths) + 99) // 100 - 1],
            "text_length_max": lengths[-1],
            "root": head(seal).root,
            "seal": artifacts.put(seal),
            "parent": digest_of(self._old),
            "shift": self._shifted_part(),
        }
        return self._old.model_copy(update=update | self._documents(artifacts, salt, documents))

    def _documents(self, artifacts: ArtifactStore, salt: bytes, gone: Mapping[str, Quarantined]) -> dict[str, object]:
        """What the manifest says of the documents that are left, and of the first day on which anything may be kept no more."""
        lines = artifacts.get(self._old.documents).splitlines() if self._old.documents else []
        left = [document for document in map(Document.model_validate_json, lines) if document.id not in gone]
        days = {document.provenance.retain_until for document in left if document.provenance} | {self._expires}
        told: dict[str, object] = {"expires": min((day for day in days if day), default=None)}
        if not gone:
            return told
        stored_documents = artifacts.put(b"".join(canonical_json(document) + b"\n" for document in left)) if left else None
        return told | {"documents": stored_documents, "sealed_documents": seal_documents(left, salt, artifacts)}

    def _shifted_part(self) -> ShiftedPart | None:
        if self._old.shift is None:
            return None
        names = sorted({label for label, _ in self._shifted if label is not None})
        counted = {name: _counts(Counter({split: self._shifted[name, split] for split in Split})) for name in (None, *names)}
        return ShiftedPart(rule=self._old.shift.rule, counts=counted[None], label_counts={name: counted[name] for name in names})

    def _label_counts(self) -> dict[str, SplitCounts]:
        """A label that lost its last row is no label any more."""
        names = sorted({label for label, _ in self._labels})
        return {name: _counts(Counter({split: self._labels[name, split] for split in Split})) for name in names}


def _task_of(manifest: SnapshotManifest) -> Task:
    """The task as far as rows show it: what counts here are labels."""
    kind = TaskKind.CLASSIFY if manifest.label_counts else TaskKind.GENERATE
    return Task(kind=kind, labels="many" if manifest.label_sets else "one", instruction="-")


def _counts(counter: Counter[Split]) -> SplitCounts:
    return SplitCounts(train=counter[Split.TRAIN], dev=counter[Split.DEV], test=counter[Split.TEST])


def _place(line: bytes) -> tuple[str, int, str]:
    entry = Quarantined.model_validate_json(line)
    return entry.file, entry.line, entry.code
