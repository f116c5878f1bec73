"""Search of a tenant's uploaded files, submitted or not, for a data subject: by name, and by what their rows and documents say.

Which column of a file names people is not known before an objective says so. A file that holds the name, or a text of the person, is
theirs as a whole: it is a copy, and can be sent again without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tailorbird import data
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.run import Run
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.files import remove_folder
from tailorbird.text.text_finder import TextFinder
from tailorbird.usecases.anchored_rows import anchored_records
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.uploads import Upload, readable_upload, uploads_folder


class UploadsFound(NamedTuple):
    """Uploaded files that hold something of the person, those that could not be searched, and how many uploads under way did."""

    theirs: frozenset[Digest] = frozenset()
    unread: frozenset[Digest] = frozenset()
    under_way: int = 0

    def __bool__(self) -> bool:
        return bool(self.theirs or self.under_way)


def find_uploads(deps: Dependencies, tenant: str, quotes: TextFinder) -> UploadsFound:
    """Searches every file that the tenant has uploaded, whole or under way. Raises Corrupt, Unavailable.

    Those under way that hold something of the person are removed at once, and first: their sender is refused, and can send the file without
    the person. One that became whole before is found among the whole ones.
    """
    under_way = 0
    for folder in _under_way(deps, tenant, quotes):
        remove_folder(folder)
        under_way += 1
    theirs, unread = set[Digest](), set[Digest]()
    for digest in sorted(uploaded(deps, tenant)):
        found = _in_artifact(deps, digest, quotes)
        if found is None:
            unread.add(digest)
        elif found:
            theirs.add(digest)
    return UploadsFound(frozenset(theirs), frozenset(unread), under_way)


def uploaded(deps: Dependencies, tenant: str) -> set[Digest]:
    """Files that the tenant has sent and that are still there."""
    with deps.ledger.work(tenant, write=False) as work:
        sent = uploaded_by(work)
        trees = [run.inputs for run in work.runs.all() if run.inputs]
    came = {digest for tree in trees if deps.artifacts.exists(tree) for digest in deps.artifacts.tree(tree).values()}
    return {digest for digest in sent | came if deps.artifacts.exists(digest)}


def uploaded_by(work: UnitOfWork) -> set[Digest]:
    """Files that the tenant has sent."""
    return {work.records.get(Upload, digest).file for digest in anchored_records(work, Upload)}


def runs_over(work: UnitOfWork, artifacts: ArtifactStore, files: Set[Digest]) -> Iterator[Run]:
    """Runs that were submitted with one of ``files``."""
    for run in work.runs.all():
        if run.inputs and artifacts.exists(run.inputs) and files & set(artifacts.tree(run.inputs).values()):
            yield run


def forget_uploads(work: UnitOfWork, files: Set[Digest]) -> None:
    """The tenant has sent these no longer: they cannot be submitted."""
    work.records.forget(Upload, [digest_of(Upload(file=digest)) for digest in files])


def _in_artifact(deps: Dependencies, digest: Digest, quotes: TextFinder) -> bool | None:
    """Whether the file holds something of the person; None where it cannot be searched."""
    with readable_upload(deps, digest) as path:
        return _in_file(path, quotes)


def _under_way(deps: Dependencies, tenant: str, quotes: TextFinder) -> Iterator[Path]:
    place = uploads_folder(deps, tenant)
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        with suppress(FileNotFoundError):  # it ended, or was broken off, meanwhile
            if any(path.is_file() and _in_file(path, quotes) for path in folder.rglob("*")):
                yield folder


def _in_file(path: Path, quotes: TextFinder) -> bool | None:
    try:
        return any(quotes.held_by(text) for text in data.file_texts(path, "an uploaded file"))
    except DataInvalid:
        return None
