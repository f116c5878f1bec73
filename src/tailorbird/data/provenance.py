"""Provenance: amendments outside the files (erasures, ended retention, decisions), the Merkle seal of a snapshot, and its rewrite.

A seal is the root over salted row hashes, by which presence or absence of a row is proved. All snapshots of an objective have one salt, so
that one key shows a row in an old snapshot and its absence in a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from tailorbird.crypto.canonical_json import canonical_json, digest_of, keyed
from tailorbird.crypto.merkle import Members, Proof, TreeHead, head_of, key_of, leaf_hashes
from tailorbird.data.readers.cells import without_documents
from tailorbird.data.readers.sources import SourceRow, row_id
from tailorbird.data.split_assignment import RowCounts, manifest_counts
from tailorbird.domain.curation import Decision, FixAction
from tailorbird.domain.dataset import Document, DocumentSeal, Quarantined, Row, SnapshotManifest, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ledger.artifacts import ArtifactStore

#: Reasons for which a row had to go. These are no faults of the file.
ERASED, RETENTION_OVER, DROPPED, ANSWER_GONE = "erased", "retention_over", "dropped", "answer_gone"


@dataclass(frozen=True)
class Amendments:
    """``secret`` keys pseudonyms and salts; ``erased`` are pseudonyms; ``decisions`` are by the id of the row before them; rows whose
    retention ended before ``today`` go (None: nobody asks)."""

    secret: bytes = b""
    erased: frozenset[str] = frozenset()
    decisions: Mapping[Digest, Decision] = field(default_factory=dict)
    today: date | None = None


def amend_rows(rows: Sequence[SourceRow], amendments: Amendments, gone: Collection[str] = ()) -> tuple[list[SourceRow], list[Quarantined]]:
    """Rows as the amendments leave them, and what had to go.

    Where targets name documents, ``gone`` are those that are no answer any more; a row without an answer goes, too.
    """
    kept: list[SourceRow] = []
    removed: list[Quarantined] = []
    for source in rows:
        row = replace(source, target=without_documents(source.target, gone)) if gone else source
        decision = amendments.decisions.get(row_id(row.text, row.target)) if amendments.decisions else None
        if reason := _must_go(row, decision, amendments):
            removed.append(reason)
        else:
            kept.append(_relabelled(row, decision))
    return kept, removed


def quarantine_unanswerable(file: str, line: int) -> Quarantined:
    """Quarantine entry of a query whose relevant documents were all removed."""
    return Quarantined(file=file, line=line, code=ANSWER_GONE, reason="every document that answers it had to go")


def amend_documents(documents: Iterable[Document], amendments: Amendments) -> tuple[list[Document], dict[str, Quarantined]]:
    """The documents that stay, and why others had to go, by id."""
    kept, gone = list[Document](), dict[str, Quarantined]()
    for document in documents:
        place = document.provenance
        if place is not None and place.subject in amendments.erased:
            gone[document.id] = Quarantined(file=place.file, line=place.line, code=ERASED, reason="its subject was erased")
        elif place is not None and (why := _expired(place.retain_until, amendments.today)):
            gone[document.id] = Quarantined(file=place.file, line=place.line, code=RETENTION_OVER, reason=why)
        else:
            kept.append(document)
    return kept, gone


def _expired(until: date | None, today: date | None) -> str:
    return f"it could be kept until {until.isoformat()}" if until and today and until < today else ""


def _must_go(row: SourceRow, decision: Decision | None, amendments: Amendments) -> Quarantined | None:
    if row.subject in amendments.erased:
        code, reason = ERASED, "its subject was erased"
    elif why := _expired(row.place.retain_until, amendments.today):
        code, reason = RETENTION_OVER, why
    elif not row.target:
        return quarantine_unanswerable(row.place.file, row.line)
    elif decision and decision.action is FixAction.DROP:
        code, reason = DROPPED, f"{decision.by} decided that it goes"
    else:
        return None
    return Quarantined(file=row.place.file, line=row.line, code=code, reason=reason)


def _relabelled(row: SourceRow, decision: Decision | None) -> SourceRow:
    if decision is None or decision.action is not FixAction.RELABEL:
        return row
    return replace(row, target=decision.label, transforms=(*row.transforms, f"relabel:{decision.by}"))


#: Bytes of a member: its key, and the digest of its content.
MEMBER = 64


def salt_of(secret: bytes, objective: str) -> bytes:
    """The salt of an objective's snapshots."""
    return hmac.digest(secret, f"tailorbird/rows/v1\n{objective}".encode(), hashlib.sha256)


def members_of(stored: bytes) -> Members:
    """The tree of a seal as ``stored``."""
    return Members((stored[at : at + 32], stored[at + 32 : at + MEMBER]) for at in range(0, len(stored), MEMBER))


def head(stored: bytes) -> TreeHead:
    """The root of the tree of a seal as ``stored``, and its size."""
    return head_of(list(leaf_hashes(stored[at : at + MEMBER] for at in range(0, len(stored), MEMBER))))


def seal_of(salt: bytes, contents: Iterable[tuple[Digest, bytes]]) -> bytes:
    """The seal of rows or documents by what identifies each: for each its salted key (as ``key_of`` has it) and the salted hash of its
    canonical JSON, in the order of the tree."""
    hashed = keyed(salt)
    return b"".join(sorted(hashed(key.encode()) + hashed(line) for key, line in contents))


def seal_documents(documents: Sequence[Document], salt: bytes, artifacts: ArtifactStore) -> DocumentSeal | None:
    """The seal of a snapshot's documents; None where there are none."""
    if not documents:
        return None
    seal = seal_of(salt, ((document_key(document), canonical_json(document)) for document in documents))
    return DocumentSeal(root=head(seal).root, size=len(documents), members=artifacts.put(seal))


def document_key(document: Document) -> Digest:
    """What makes a document this one and no other: its text and its id."""
    return row_id(document.text, document.id)


def prove_rows(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, rows: Sequence[Digest]
) -> list[tuple[str, Proof, Proof]]:
    """For each of ``rows`` its salted key, its proof in the snapshot ``before`` and its proof in the snapshot ``after``."""
    return _prove(artifacts, salt_of(secret, before.objective), (before.seal, after.seal), rows)


def prove_documents(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, documents: Sequence[Document]
) -> list[tuple[str, Proof, Proof]]:
    """The same for ``documents``. Nothing is proved of snapshots of earlier versions, whose documents have no seal."""
    was, now = before.sealed_documents, after.sealed_documents
    if was is None:
        return []
    seals = was.members, now.members if now else None
    return _prove(artifacts, salt_of(secret, before.objective), seals, list(map(document_key, documents)))


def _prove(
    artifacts: ArtifactStore, salt: bytes, seals: tuple[Digest | None, Digest | None], named: Sequence[Digest]
) -> list[tuple[str, Proof, Proof]]:
    was, now = (members_of(artifacts.get(seal)) if seal else Members(()) for seal in seals)
    keys = [key_of(salt, each) for each in named]
    return [(key.hex(), was.prove(key), now.prove(key)) for key in keys]


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


def load_documents(manifest: SnapshotManifest, artifacts: ArtifactStore) -> tuple[Document, ...]:
    """The tenant's documents, sorted by id; none where the objective names none. Raises NotFound or Corrupt."""
    lines = artifacts.get(manifest.documents).splitlines() if manifest.documents else []
    return tuple(map(Document.model_validate_json, lines))


def documents_of_subject(manifest: SnapshotManifest, artifacts: ArtifactStore, subject: str) -> tuple[Document, ...]:
    """The documents that carry the pseudonym ``subject``."""
    found = load_documents(manifest, artifacts)
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
    # The task as far as rows show it: what counts here are labels.
    kind = TaskKind.CLASSIFY if manifest.label_counts else TaskKind.GENERATE
    task = Task(kind=kind, labels="many" if manifest.label_sets else "one", instruction="-")
    lines, counts, lengths, days = dict[Digest, bytes](), Counter[tuple[str, Split, bool]](), list[int](), set[date | None]()
    gone, moved = list[tuple[Row, Quarantined]](), list[tuple[Row, Row]]()

    def keep(row: Row, line: bytes) -> None:
        lines[row.id] = line
        counts[row.target if manifest.label_counts else "", row.split, row.shifted] += 1
        lengths.append(len(row.text))
        days.add(row.provenance.retain_until)

    for line in stored_rows(manifest, artifacts):
        row = Row.model_validate_json(line)
        after = change(row)
        if isinstance(after, Quarantined):
            gone.append((row, after))
        elif after.id != row.id:
            moved.append((row, after))
        else:
            keep(after, line)
    changed = [(row, after) for row, after in moved if after.id not in lines]
    for row, after in moved:
        if after.id in lines:
            place, reason = after.provenance, "with its new label it repeats another row"
            gone.append((row, Quarantined(file=place.file, line=place.line, code="duplicate", reason=reason)))
    for _, after in changed:
        keep(after, canonical_json(after))
    if not all(RowCounts(counts).splits(shifted=False)[split] for split in Split):
        hint = "bring more rows in the source files, and adapt again: a snapshot needs rows to learn from and to measure on"
        raise DataInvalid("without these rows a split would be empty", hint)
    left = [each for each in load_documents(manifest, artifacts) if each.id not in documents]
    days |= {document.provenance.retain_until for document in left if document.provenance}
    salt, seal = salt_of(secret, manifest.objective), seal_of(salt_of(secret, manifest.objective), lines.items())
    more = [*(why for _, why in gone), *documents.values()]
    quarantine = sorted([*artifacts.get(manifest.quarantine).splitlines(), *map(canonical_json, more)], key=_place)
    update: dict[str, Any] = {
        "rows": artifacts.put(b"".join(lines[row] + b"\n" for row in sorted(lines))),
        "quarantine": artifacts.put(b"".join(line + b"\n" for line in quarantine)),
        "quarantined": len(quarantine),
        "removed": manifest.removed + len(gone),
        **manifest_counts(RowCounts(counts), sorted(lengths), task, manifest.shift.rule if manifest.shift else None),
        "root": head(seal).root,
        "seal": artifacts.put(seal),
        "parent": digest_of(manifest),
        "expires": min((day for day in days if day), default=None),
    }
    if documents:
        stored = artifacts.put(b"".join(canonical_json(document) + b"\n" for document in left)) if left else None
        update |= {"documents": stored, "sealed_documents": seal_documents(left, salt, artifacts)}
    return SnapshotRewrite(manifest.model_copy(update=update), [row for row, _ in gone], changed)


def _place(line: bytes) -> tuple[str, int, str]:
    entry = Quarantined.model_validate_json(line)
    return entry.file, entry.line, entry.code
