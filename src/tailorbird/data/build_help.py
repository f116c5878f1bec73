"""Help with a build that somebody else does: parts of it, from the last to the first, until they meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self, TypeVar

from tailorbird.data.duplicates.near_duplicates import BAND_PARTS, NearSearch
from tailorbird.data.parts import near_parts, shared_rows
from tailorbird.data.parts.given_parts import GivenParts
from tailorbird.data.parts.row_curation import RowPolicy, curated_stretch
from tailorbird.data.pipeline import SnapshotRequest, build_head, privacy_of, schemes_of
from tailorbird.data.readers.data_file import DataFile, state_of
from tailorbird.data.readers.packed_file import is_packed
from tailorbird.data.readers.source_resolver import open_source
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.data.readers.sources import in_order, split_column
from tailorbird.data.readers.stretches import Stretch, stretches_of
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Objective
from tailorbird.system.garbage_collection import uncollected

T = TypeVar("T")
#: A helper's own share of parts, in the order in which it does them, and then what is left of others'.
Order = Callable[[Sequence[Any]], list[Any]]
#: Seconds between two looks for the texts to be compared.
_LOOK = 0.2
#: Seconds for which help waits though nobody is at the build: a process that takes it up needs some to begin. It may wait for the cores of
#: this one, so that waiting for it has an end.
_ALONE = 30.0


class _Part(NamedTuple):
    """A stretch of an open file, the source ``number``, whose state was ``state`` when its digest was taken."""

    number: int
    file: DataFile
    stretch: Stretch
    making: RowBuilder
    state: tuple[int, int, int]


def can_be_helped(objective: Objective) -> bool:
    """True where each node finds the files, and rows need nothing but their own file: no documents. Compressed files are left to the
    builder: whoever helps has all sources open at once, and what they unpack to has no bound together."""
    far = any("://" in source.path or source.qrels or is_packed(source.path) for source in objective.data)
    return not objective.documents and not far


def help_build(request: SnapshotRequest, order: Order) -> int:
    """Does parts of the build of ``request`` that ``request.parts`` lacks, as long as they are wanted; how many. Raises as
    ``build_snapshot``: whoever builds does then without."""
    with uncollected():
        head = build_head(request, schemes_of(privacy_of(request)))
        with _open_files(request) as files:
            done = _help_with_rows(request, head, files, order)
            digests = {part.file.name: part.file.digest for part in files}
        return done + _help_with_pairs(request, {**head, "files": digests}, order)


@contextmanager
def _open_files(request: SnapshotRequest) -> Iterator[list[_Part]]:
    """The stretches of all sources."""
    objective, parts = request.objective, list[_Part]()
    with ExitStack() as stack:
        for number, source in enumerate(in_order(objective.data)):
            file = stack.enter_context(open_source(source, request.folder, split_column(objective)))
            making, state = RowBuilder(objective, source, request.amendments.secret), state_of(file.path)
            parts += [_Part(number, file, stretch, making, state) for stretch in stretches_of(file, request.stretch)]
        yield parts


def _help_with_rows(request: SnapshotRequest, head: dict[str, object], parts: Sequence[_Part], order: Order) -> int:
    """Curates stretches until all are read."""
    policy = RowPolicy(request.objective, privacy_of(request), request.amendments)
    with _Giver(request.parts) as giver:
        for number, file, stretch, making, state in order(parts):
            name, known = shared_rows.part_name(number, stretch), request.parts.known
            if near_parts.READ in known or near_parts.TEXTS in known or not request.parts.wanted:
                break
            if name in known:
                continue
            part = curated_stretch(file, stretch, making, policy)
            if state_of(file.path) != state:
                raise DataInvalid(f"{file.name}: the file was changed while it was read", "try again", code="file_changed")
            giver.give(name, part.packed(shared_rows.head_of(head, number, file, stretch)))
    return giver.given


def _help_with_pairs(request: SnapshotRequest, head: dict[str, object], order: Order) -> int:
    """Searches bands of the texts, once they are there."""
    search = _search(request, head)
    if search is None:
        return 0
    with _Giver(request.parts) as giver:
        for bands in order(BAND_PARTS):
            name, known = near_parts.part_name(bands), request.parts.known
            if near_parts.SEARCHED in known or not request.parts.wanted:
                break
            if name not in known:
                giver.give(name, near_parts.pairs_packed(search.search(bands), head))
    return giver.given


class _Giver:
    """Gives parts, one behind the other, while the next is made: the disk is waited for, and the record. ``given`` counts those that were
    wanted, once it is left."""

    def __init__(self, parts: GivenParts) -> None:
        self._parts, self._pool = parts, ThreadPoolExecutor(1)
        self._last: Future[bool] | None = None
        self.given = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            self._settle()

    def give(self, name: str, data: bytes) -> None:
        """Begins to give a part, once the one before is given. Raises what giving that one raised."""
        self._settle()
        self._last = self._pool.submit(self._parts.put, name, data)

    def _settle(self) -> None:
        if self._last is not None:
            last, self._last = self._last, None
            self.given += last.result()


def _search(request: SnapshotRequest, head: dict[str, object]) -> NearSearch | None:
    """The search among the texts, once who builds has given them; None where nobody does."""
    alone = 0.0
    while request.parts.wanted and alone <= _ALONE:
        data = request.parts.get(near_parts.TEXTS) if near_parts.TEXTS in request.parts.known else None
        if data is not None:
            try:
                return near_parts.search_given(data, head)
            except (ValueError, KeyError):  # they are of another build, which this process cannot help with
                return None
        time.sleep(_LOOK)
        alone = 0.0 if request.parts.is_held else alone + _LOOK
    return None
