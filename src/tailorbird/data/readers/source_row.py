"""A row as read, compact enough for a million of them, and its content-addressed id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from tailorbird.domain.dataset import Document, Provenance, Quarantined, Split
from tailorbird.domain.value import Digest
from tailorbird.text.normalisation import normalise


def row_id(text: str, target: str) -> Digest:
    """The digest of the normalised text and the target: exact duplicates share it.

    It is ``digest_of({"target": ..., "text": ...})``, spelled out because a million rows ask for it: of texts alone, ``json`` writes the
    canonical form.
    """
    encoded = f'{{"target":{_text(target)},"text":{_text(normalise(text))}}}'
    return "sha256:" + sha256(encoded.encode()).hexdigest()


_text = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """What rows of one file share: where they are from, and on what terms. ``file_digest`` is set for the files of a folder."""

    file: str
    file_digest: Digest | None
    origin: str
    license: str
    collected: str
    consent: str
    retain_until: date | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it stands in its file. ``target`` is the label without outer white space, or the answer as it is.

    ``fixed`` is the split that the objective gives to the whole source, ``subject`` the keyed pseudonym of the person it belongs to.
    ``shift`` is the cell that the objective splits by, ``shifted`` what follows from it (``splitting/shifting``).
    """

    text: str
    target: str
    subject: str | None
    fixed: Split | None
    place: SourcePlace
    line: int
    transforms: tuple[str, ...] = ()
    shift: str = ""
    shifted: bool = False

    @property
    def provenance(self) -> Provenance:
        """What the row will carry in a snapshot."""
        fields = {name: getattr(self.place, name) for name in SourcePlace.__dataclass_fields__}
        return Provenance(**fields, line=self.line, subject=self.subject, transforms=self.transforms)


@dataclass(frozen=True)
class SourceRows:
    """All rows of an objective in the order of its sources. ``read`` counts the records of each file: rows and quarantined ones.

    ``removed`` are rows that had to go for reasons outside of the files (``data/provenance``): no fault of any file.
    ``documents`` are sorted by id; ``removed_documents`` are those that had to go likewise.
    """

    rows: tuple[SourceRow, ...]
    quarantined: tuple[Quarantined, ...]
    read: dict[str, int]
    files: dict[str, Digest]
    removed: tuple[Quarantined, ...] = ()
    documents: tuple[Document, ...] = ()
    removed_documents: tuple[Quarantined, ...] = ()
