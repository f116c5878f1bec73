"""Contradicting labels: one text that several rows label in different ways, so that no answer suits all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tailorbird import data
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.preflight import PreflightFinding, PreflightSeverity
from tailorbird.text.normalisation import normalise
from tailorbird.usecases.steps.step_context import StepContext

#: A share of the rows that is worth a word.
_SHARE = 0.01


class Contradictions(NamedTuple):
    """Of ``rows`` so many have a text that others label otherwise; ``right`` is how many one answer for each text suits at most, of all
    rows. ``first`` are the places of two of them, ``FILE:LINE``."""

    rows: int
    right: int
    first: tuple[str, ...] = ()


def contradictions(rows: Sequence[Row]) -> Contradictions | None:
    """What rows with one text (case and white space aside) and several labels cost; None where that is less than a hundredth."""
    by_text: dict[str, list[Row]] = {}
    for row in rows:
        by_text.setdefault(normalise(row.text), []).append(row)
    found = [same for same in by_text.values() if len({row.answer for row in same}) > 1]
    lost = sum(len(same) - max(Counter(row.answer for row in same).values()) for same in found)
    if lost < max(1, _SHARE * len(rows)):
        return None
    first = min(sorted((row.provenance.file, row.provenance.line) for row in same) for same in found)
    return Contradictions(sum(map(len, found)), len(rows) - lost, tuple(f"{file}:{line}" for file, line in first[:2]))


def contradicting_labels_finding(context: StepContext) -> PreflightFinding | None:
    """A warning where the rows of dev hold so many that the accuracy of any candidate is bounded by them. Of test no text is read."""
    manifest, artifacts = context.manifest, context.deps.artifacts
    if context.objective.task.kind is not TaskKind.CLASSIFY or not manifest.curation:
        return None
    if not CurationReport.model_validate_json(artifacts.get(manifest.curation)).conflicting_groups:
        return None
    rows = data.load_rows(manifest, artifacts, Split.DEV)
    found = contradictions(rows)
    if found is None:
        return None
    return PreflightFinding(
        code="labels_contradict",
        severity=PreflightSeverity.WARNING,
        what=f"{found.rows:,} of {len(rows):,} dev rows have the text of another row and another label ({' and '.join(found.first)}): "
        f"whatever a candidate answers, at most {found.right / len(rows):.3f} of dev is right, and train and test are probably no better",
        remedy="decide which label each text has (or whether an item may have several: `labels: many`), and curate the data again",
    )
