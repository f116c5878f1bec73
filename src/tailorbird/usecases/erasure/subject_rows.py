"""What snapshots hold of one person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tailorbird import data
from tailorbird.domain.dataset import Document, Provenance, Row, SnapshotManifest
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore


class SubjectData(NamedTuple):
    """A person's rows and documents in one snapshot."""

    rows: Sequence[Row]
    documents: Sequence[Document] = ()

    @property
    def places(self) -> Iterator[Provenance]:
        """Where each is from."""
        yield from (row.provenance for row in self.rows)
        yield from (document.provenance for document in self.documents if document.provenance is not None)


#: What is held of a person, by the snapshot that it must leave.
Found = Mapping[Digest, SubjectData]


def held_by(manifest: SnapshotManifest, artifacts: ArtifactStore, subject: str) -> SubjectData:
    """What is there of the person with the pseudonym ``subject``; nothing where bytes were destroyed: the snapshot that was made from it
    then holds what was left."""
    if not all(map(artifacts.exists, filter(None, (manifest.rows, manifest.documents)))):
        return SubjectData(())
    return SubjectData(data.rows_of_subject(manifest, artifacts, subject), data.documents_of_subject(manifest, artifacts, subject))


def with_ancestors(found: Found, manifests: Mapping[Digest, SnapshotManifest]) -> Found:
    """``found``, and the snapshots that those were made from: their bytes may be destroyed, but what learned from them is not."""
    lineage = dict(found)
    for digest, held in found.items():
        parent = manifests[digest].parent
        while parent is not None and parent not in lineage and parent in manifests:
            lineage[parent], parent = held, manifests[parent].parent
    return lineage
