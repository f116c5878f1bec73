"""Rows of a file, stretch by stretch, each of which others may have curated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tailorbird.data.parts.given_parts import GivenParts
from tailorbird.data.parts.row_curation import RowPolicy, curated_stretch
from tailorbird.data.parts.row_part import RowPart
from tailorbird.data.readers import refuse_if_most
from tailorbird.data.readers.data_file import DataFile
from tailorbird.data.readers.source_resolver import columns_of
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.data.readers.sources import HOPELESS, check_file
from tailorbird.data.readers.stretches import WHOLE, Stretch, stretches_of
from tailorbird.domain.errors import DataInvalid, TailorbirdError


@dataclass
class SharedRows:
    """Curates files in stretches of about ``size`` bytes, and takes those that others have done. ``head`` says of which build they are;
    ``taken`` counts them."""

    policy: RowPolicy
    given: GivenParts
    head: Mapping[str, Any]
    size: int
    taken: int = 0

    def of_file(self, number: int, file: DataFile, making: RowBuilder) -> list[RowPart]:
        """The rows of source ``number``. Where a stretch cannot be read, the file is read as one, and an error is of the file. Raises
        DataInvalid as reading does."""
        stretches = stretches_of(file, self.size)
        parts: list[RowPart] | None = None
        try:
            parts = self._parts(number, file, making, stretches)
        except DataInvalid:
            if len(stretches) == 1:
                raise
        if parts is None:  # not while the error is handled: its traceback keeps all that was read until then
            parts = self._parts(number, file, making, [WHOLE])
        columns = dict.fromkeys(column for part in parts for column in part.columns)
        records = sum(part.usable + len(part.unusable) for part in parts)
        check_file(file, self.policy.objective.task, columns_of(making.source, making.split_by), columns, records=records)
        return parts

    def _parts(self, number: int, file: DataFile, making: RowBuilder, stretches: list[Stretch]) -> list[RowPart]:
        parts, others = list[RowPart](), dict[Stretch, RowPart | None]()
        for place, stretch in enumerate(stretches):
            self._take(number, file, stretches[place:], others)
            parts.append(others.pop(stretch, None) or curated_stretch(file, stretch, making, self.policy))
            unusable = [entry for part in parts for entry in part.unusable] if parts[-1].unusable else []
            if len(unusable) >= HOPELESS:
                refuse_if_most({file.name: len(unusable) + sum(part.usable for part in parts)}, unusable)
        return parts

    def _take(self, number: int, file: DataFile, left: Sequence[Stretch], others: dict[Stretch, RowPart | None]) -> None:
        """Takes what others have done by now of the stretches that are ``left``, also of later ones: they go on meanwhile, and have nothing
        to do once all is read. What cannot be used is None in ``others``, and not asked for again."""
        left = [stretch for stretch in left if stretch not in others]
        known: Collection[str] = ()
        with suppress(TailorbirdError):
            known = self.given.known if left else ()
        for stretch in left:
            if part_name(number, stretch) in known:
                others[stretch] = self._found(number, file, stretch)

    def _found(self, number: int, file: DataFile, stretch: Stretch) -> RowPart | None:
        """What others have made of a stretch; what cannot be read is as if it were not there."""
        data = self.given.get(part_name(number, stretch))
        try:
            found = RowPart.unpacked(data, head_of(self.head, number, file, stretch)) if data is not None else None
        except (ValueError, KeyError, TypeError):
            return None
        self.taken += found is not None
        return found


def part_name(number: int, stretch: Stretch) -> str:
    """As it stands in the record."""
    return f"rows {number} {stretch.start}-{'' if stretch.stop is None else stretch.stop}"


def head_of(head: Mapping[str, Any], number: int, file: DataFile, stretch: Stretch) -> dict[str, Any]:
    """What the part is of."""
    return {**head, "source": number, "file": file.digest, "start": stretch.start, "stop": stretch.stop, "lines": stretch.lines}
