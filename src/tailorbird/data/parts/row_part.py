"""What curation makes of one stretch of a source, and its bytes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.contamination import TextRuns
from tailorbird.data.curation import CurationTally
from tailorbird.data.duplicates.exact import NamedRows
from tailorbird.data.duplicates.text_index import TextIndex
from tailorbird.data.duplicates.text_sketches import TextSketches
from tailorbird.data.parts.given_parts import TextBlob, packed, unpacked
from tailorbird.data.readers import SourcePlace, SourceRow
from tailorbird.domain.curation import FlowStep, PersonalKind, QualityRule, RowFinding
from tailorbird.domain.dataset import Quarantined, Split

T = TypeVar("T", bound=Hashable)
#: Targets of a part from which on they are taken for answers in free text, of which each is kept by itself.
_FEW = 1000


@dataclass
class RowPart:
    """N rows of one source that stay, with their texts, ids and sketches (None where texts are not compared as they are). ``usable`` counts
    the rows that were read, ``unusable`` are records that are none, ``removed`` rows that amendments took out; ``columns`` those that were
    seen."""

    named: NamedRows
    sketches: TextSketches | None
    tally: CurationTally
    removed: list[Quarantined]
    usable: int
    unusable: list[Quarantined] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)

    def packed(self, head: Mapping[str, Any]) -> bytes:
        """Its bytes; ``head`` says what it is of."""
        rows = self.named.rows
        facts, arrays = dict[str, Any](), dict[str, NDArray[Any]]()
        for name in ("target", "subject", "fixed", "place", "transforms", "shift"):
            distinct, arrays[f"{name}_at"] = _coded(map(attrgetter(name), rows), len(rows))
            facts[name] = [_told(value) for value in distinct] if name == "place" else distinct
        arrays["line"] = np.fromiter((row.line for row in rows), np.int64, len(rows))
        arrays |= TextBlob.arrays("text", [row.text for row in rows]) | TextBlob.arrays("folded", [*self.named.folded])
        arrays["ids"] = np.frombuffer(bytes.fromhex("".join(id_[7:] for id_ in self.named.ids)), dtype=np.uint8)
        if self.sketches is not None:
            index, runs = self.sketches.index, self.sketches.runs
            arrays |= {"signatures": index.signatures_PN, "lengths": index.lengths_N, "histograms": index.histograms_NB}
            arrays |= {"runs": runs.runs_R, "counts": runs.counts_N}
        facts |= {"tally": _tallied(self.tally), "usable": self.usable, "columns": self.columns}
        facts |= {"removed": _entries(self.removed), "unusable": _entries(self.unusable)}
        return packed(head, facts, arrays)

    @classmethod
    def unpacked(cls, data: bytes, head: Mapping[str, Any]) -> RowPart:
        """The part that ``data`` are the bytes of. Raises ValueError, KeyError, TypeError where they are those of something else."""
        facts, arrays = unpacked(data, head)
        facts["target"] = [sys.intern(target) for target in facts["target"]] if len(facts["target"]) < _FEW else facts["target"]
        columns = {name: _decoded(facts[name], arrays[f"{name}_at"]) for name in ("target", "subject", "transforms", "shift")}
        fixed = _decoded([Split(value) if value else None for value in facts["fixed"]], arrays["fixed_at"])
        places = _decoded([_place(told) for told in facts["place"]], arrays["place_at"])
        texts, lines = TextBlob.read("text", arrays).all(), arrays["line"].tolist()
        fields = (texts, columns["target"], columns["subject"], fixed, places, lines, map(tuple, columns["transforms"]), columns["shift"])
        rows = [SourceRow(*each) for each in zip(*fields, strict=True)]
        spelled = arrays["ids"].tobytes().hex()
        ids = [f"sha256:{spelled[at : at + 64]}" for at in range(0, len(spelled), 64)]
        folded = TextBlob.read("folded", arrays).all()
        if not len(rows) == len(ids) == len(folded):
            raise ValueError("the rows are others")
        return cls(
            NamedRows(rows, folded, ids, range(len(rows))),
            _sketches(arrays, len(rows)),
            _tally(facts["tally"]),
            _quarantined(facts["removed"]),
            facts["usable"],
            _quarantined(facts["unusable"]),
            facts["columns"],
        )


def _coded(values: Iterable[T], size: int) -> tuple[list[T], NDArray[np.int32]]:
    """Distinct values, and which of them stands at each place."""
    numbers: dict[T, int] = {}
    at_N = np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), np.int32, size)
    return list(numbers), at_N


def _decoded(distinct: Sequence[Any], at_N: NDArray[np.int32]) -> list[Any]:
    """Raises ValueError where the places are of other values."""
    if at_N.size and not 0 <= at_N.min() <= at_N.max() < len(distinct):
        raise ValueError("the values are others")
    return [distinct[place] for place in at_N.tolist()]


def _told(place: SourcePlace) -> list[str | None]:
    until = place.retain_until
    return [
        place.file,
        place.file_digest,
        place.origin,
        place.license,
        place.collected,
        place.consent,
        until.isoformat() if until else None,
    ]


def _place(told: Sequence[Any]) -> SourcePlace:
    file, file_digest, origin, licence, collected, consent, until = told
    return SourcePlace(file, file_digest, origin, licence, collected, consent, date.fromisoformat(until) if until else None)


def _entries(quarantined: Iterable[Quarantined]) -> list[list[Any]]:
    return [[entry.file, entry.line, entry.code, entry.reason] for entry in quarantined]


def _quarantined(entries: Iterable[Sequence[Any]]) -> list[Quarantined]:
    return [Quarantined(file=file, line=line, code=code, reason=reason) for file, line, code, reason in entries]


def _tallied(tally: CurationTally) -> dict[str, Any]:
    return {
        "flow": [step.model_dump() for step in tally.flow],
        "findings": [finding.model_dump(mode="json") for finding in tally.findings],
        "quarantined": _entries(tally.quarantined),
        "rows": {kind.value: count for kind, count in tally.personal_rows.items()},
        "found": {kind.value: count for kind, count in tally.personal_found.items()},
        "quality": {rule.value: count for rule, count in tally.quality.items()},
    }


def _tally(told: Mapping[str, Any]) -> CurationTally:
    return CurationTally(
        [FlowStep.model_validate(step) for step in told["flow"]],
        [RowFinding.model_validate(finding) for finding in told["findings"]],
        _quarantined(told["quarantined"]),
        Counter({PersonalKind(kind): count for kind, count in told["rows"].items()}),
        Counter({PersonalKind(kind): count for kind, count in told["found"].items()}),
        Counter({QualityRule(rule): count for rule, count in told["quality"].items()}),
    )


def _sketches(arrays: Mapping[str, NDArray[Any]], size: int) -> TextSketches | None:
    if "signatures" not in arrays:
        return None
    index = TextIndex(arrays["signatures"].copy(), arrays["lengths"].copy(), arrays["histograms"].copy())
    runs = TextRuns(arrays["runs"].copy(), arrays["counts"].copy())
    if not index.size == index.signatures_PN.shape[1] == len(index.histograms_NB) == len(runs.counts_N) == size:
        raise ValueError("the sketches are of other rows")
    if len(runs.runs_R) != int(runs.counts_N.sum(dtype=np.int64)):
        raise ValueError("the runs are of other rows")
    return TextSketches(index, runs)
