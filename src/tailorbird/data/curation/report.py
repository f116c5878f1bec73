"""The report of one curation: counts and places, and no text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.curation.steps import CurationTally
from tailorbird.data.duplicates.exact import Item
from tailorbird.domain.curation import (
    ClassCount,
    Contamination,
    CoverageProfile,
    CurationPolicy,
    CurationReport,
    DuplicateGroup,
    LengthBin,
    PersonalCount,
)
from tailorbird.domain.dataset import Split, SplitCounts

#: Groups that a report names: the largest ones.
NAMED_GROUPS = 1000
#: Rows below which a label is rare; and the share of the median label's rows.
RARE, RARE_SHARE = 10, 0.1


@dataclass(frozen=True)
class NearDuplicateGroups:
    """Groups of near-duplicates: the largest ones, how many there are, and how many of them bear more than one label."""

    largest: tuple[DuplicateGroup, ...]
    count: int
    conflicting: int


@dataclass(frozen=True)
class CurationOutcome:
    """What the steps after the policy found. ``protected`` counts rows set aside by protected set; ``lengths`` are in characters."""

    groups: NearDuplicateGroups
    protected: Mapping[str, int]
    label_counts: Mapping[str, SplitCounts]
    lengths: NDArray[np.int32]
    test_rows: int


def groups_of(items: Sequence[Item], alike: Sequence[Sequence[int]], *, labelled: bool) -> NearDuplicateGroups:
    """``alike`` are places of ``items`` that near-duplicate ties connect, two or more each."""
    groups = sorted((_group(items, group, labelled=labelled) for group in alike), key=lambda group: (-len(group.rows), group.id))
    return NearDuplicateGroups(tuple(groups[:NAMED_GROUPS]), len(groups), sum(group.conflicting for group in groups))


def report_of(policy: CurationPolicy, schemes: Mapping[str, str], tally: CurationTally, outcome: CurationOutcome) -> CurationReport:
    """The report; suspects are looked for by those who have the time."""
    return CurationReport(
        schemes=dict(sorted(schemes.items())),
        policy=policy,
        flow=tuple(tally.flow),
        personal=tuple(
            PersonalCount(kind=kind, rows=rows, occurrences=tally.personal_found[kind], action=policy.privacy.action(kind))
            for kind, rows in sorted(tally.personal_rows.items())
        ),
        quality={rule.value: count for rule, count in sorted(tally.quality.items())},
        groups=outcome.groups.largest,
        group_count=outcome.groups.count,
        conflicting_groups=outcome.groups.conflicting,
        contamination=_contamination(tally, outcome.protected),
        suspects_skipped="not looked for yet",
        profile=profile_of(outcome),
    )


def profile_of(outcome: CurationOutcome) -> CoverageProfile:
    """Balance and coverage. A share of n test rows is known to within 1.96 √(0.25 / n) at 95 % (normal approximation, at one half)."""
    totals = {label: counts.train + counts.dev + counts.test for label, counts in outcome.label_counts.items()}
    few = max(RARE, RARE_SHARE * median(totals.values())) if totals else 0
    classes = tuple(
        ClassCount(label=label, train=counts.train, dev=counts.dev, test=counts.test, rare=totals[label] < few)
        for label, counts in sorted(outcome.label_counts.items())
    )
    return CoverageProfile(
        classes=classes,
        lengths=_bins(outcome.lengths),
        imbalance=round(max(totals.values()) / max(1, min(totals.values())), 2) if totals else 1.0,
        smallest_provable=round(min(1.0, 1.96 * math.sqrt(0.25 / max(1, outcome.test_rows))), 4),
    )


def _bins(lengths: NDArray[np.int32]) -> tuple[LengthBin, ...]:
    """Bins that double: fewer than 16 characters, 16 to 31, 32 to 63, ..."""
    counts = np.bincount(np.maximum(4, np.frexp(lengths.astype(np.float64))[1])).tolist()
    bins = {bits: rows for bits, rows in enumerate(counts) if rows}
    return tuple(LengthBin(start=0 if bits == 4 else 1 << (bits - 1), end=1 << bits, rows=rows) for bits, rows in bins.items())


def _group(items: Sequence[Item], places: Sequence[int], *, labelled: bool) -> DuplicateGroup:
    labels = Counter(items[place].row.target for place in places) if labelled else Counter[str]()
    rows = sorted(items[place].id for place in places)
    return DuplicateGroup(id=rows[0], rows=tuple(rows), labels=dict(sorted(labels.items())), conflicting=len(labels) > 1)


def _contamination(tally: CurationTally, protected: Mapping[str, int]) -> tuple[Contamination, ...]:
    """Rows left out, for each split and for each protected set."""
    codes = Counter(entry.code for entry in tally.quarantined)
    leaks = {split.value: codes[f"contaminates_{split.value}"] for split in (Split.DEV, Split.TEST)}
    return tuple(Contamination(protected=name, rows=rows) for name, rows in [*leaks.items(), *sorted(protected.items())] if rows)
