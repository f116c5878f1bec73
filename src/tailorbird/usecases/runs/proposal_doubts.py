"""Doubts about the data of a proposal: what was left out, personal data, labels and groups too small to prove much, a target too low."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tailorbird.data import BuiltSnapshot
from tailorbird.domain.curation import PrivacyAction
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.objective import ProposedKpi
from tailorbird.stats.design_effect import are_worth_less
from tailorbird.usecases.climb.contradicting_labels import contradictions

#: A share of rows left out that is worth a word; items of a label in test, and labels that are named.
_LEFT_OUT, _FEW, _NAMED = 0.05, 5, 5
#: Labels that are levels by their names; those of a task may be some of them. Also numbers, with the same word before each (``P1``).
_SCALES = (
    ("none", "very low", "low", "medium", "moderate", "high", "very high", "critical"),
    ("negligible", "minor", "moderate", "major", "severe", "critical"),
    ("very negative", "negative", "neutral", "positive", "very positive"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("poor", "fair", "good", "very good", "excellent"),
)
_NUMBERED, _FEWEST_LEVELS, _MOST_LEVELS = re.compile(r"(\D*)(\d{1,2})"), 3, 11


def doubts_about(built: BuiltSnapshot, kpi: ProposedKpi, groups: Mapping[Split, Sequence[int]], *, labelled: bool) -> tuple[str, ...]:
    """What a person should know before a target on these data means anything; ``groups`` are the sizes of the groups of dev and test."""
    manifest = built.manifest
    found = [*_left_out(built), *_personal(built), *_alike(groups)]
    return (*found, *_contradicting(built), *_levels(manifest), *_rare(manifest), *_too_low(manifest, kpi)) if labelled else tuple(found)


def _levels(manifest: SnapshotManifest) -> Iterator[str]:
    if order := levels_of(sorted(manifest.label_counts)):
        written = ", ".join(json.dumps(label, ensure_ascii=False) for label in order)  # 01 without quotes is the number 1 in YAML
        yield (
            f"the labels look like levels: where an answer that is one level off is better than one that is far off, write "
            f"`label_order: [{written}]` under `task`, and a KPI on `ordinal_score` or `within_one`"
        )


def levels_of(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels in order, where their names are those of a scale or are numbered one after the other; none otherwise."""
    if not _FEWEST_LEVELS <= len(labels) <= _MOST_LEVELS:
        return ()
    numbered = [found for label in labels if (found := _NUMBERED.fullmatch(label))]
    by_number = {int(found[2]): found[0] for found in numbered}
    if len(by_number) == len(labels) and len({found[1] for found in numbered}) == 1 and max(by_number) - min(by_number) < len(labels):
        return tuple(by_number[number] for number in sorted(by_number))
    called = {label.lower().replace("_", " ").replace("-", " "): label for label in labels}
    scale = next((scale for scale in _SCALES if called.keys() <= set(scale)), ())
    return tuple(called[name] for name in scale if name in called) if len(called) == len(labels) else ()


def _left_out(built: BuiltSnapshot) -> Iterator[str]:
    if len(built.quarantined) > _LEFT_OUT * built.manifest.read:
        reason, count = Counter(entry.reason for entry in built.quarantined).most_common(1)[0]
        first = min(entry.line for entry in built.quarantined if entry.reason == reason)
        rows = f"{len(built.quarantined):,} of {built.manifest.read:,} rows are left out"
        yield f"{rows}; the most frequent reason ({count:,} times, first on line {first}): {reason}"


def _personal(built: BuiltSnapshot) -> Iterator[str]:
    kept = [count for count in built.report.personal if count.rows and count.action is PrivacyAction.KEEP]
    if kept:
        listed = ", ".join(f"{count.kind.value} in {count.rows:,} rows" for count in kept)
        yield f"personal data in the texts: {listed}; they stay there unless `curation.privacy` says otherwise (docs/objective.md)"


def _alike(groups: Mapping[Split, Sequence[int]]) -> Iterator[str]:
    """Of dev or test, whichever has the larger group for its rows: few groups, or a large one, prove as much as few rows."""
    told = max(groups, key=lambda split: max(groups[split], default=0) / max(1, sum(groups[split])))
    rows, largest = sum(groups[told]), max(groups[told], default=0)
    if are_worth_less(groups[told]):
        yield (
            f"many rows are nearly alike, or of one subject, and stay in one split: the {rows:,} {told.value} rows fall into "
            f"{len(groups[told]):,} group{'s' if len(groups[told]) > 1 else ''}, the largest of {largest:,} rows, and prove about as much "
            "as so few rows would"
        )


def _contradicting(built: BuiltSnapshot) -> Iterator[str]:
    if found := contradictions(built.rows):
        yield (
            f"{found.rows:,} rows have the text of another row and another label ({' and '.join(found.first)}): whatever is answered, at "
            f"most {found.right / len(built.rows):.2f} of all rows is right; decide which label each text has, or use --task classify-many"
        )


def _rare(manifest: SnapshotManifest) -> Iterator[str]:
    few = {label: counts for label, counts in sorted(manifest.label_counts.items()) if counts.test < _FEW}
    if few:
        named = [f"{label[:40]!r} ({counts.test} of {counts.train + counts.dev + counts.test})" for label, counts in few.items()]
        more = f" and {len(few) - _NAMED:,} more labels" if len(few) > _NAMED else ""
        yield f"test holds hardly any rows of {', '.join(named[:_NAMED])}{more}, and shows little of them: bring more, and such that differ"


def _too_low(manifest: SnapshotManifest, kpi: ProposedKpi) -> Iterator[str]:
    counts = {label: splits.train + splits.dev + splits.test for label, splits in manifest.label_counts.items()}
    common = max(counts, key=lambda label: counts[label], default="")
    share = counts.get(common, 0) / max(1, sum(counts.values()))
    reached = {"accuracy": share, "macro_f1": 2 * share / (1 + share) / max(1, len(counts))}.get(kpi.metric, 0.0)
    if kpi.target <= reached:
        yield (
            f"{kpi.metric} {kpi.target:.2f} is all that these rows can prove, and {reached:.2f} is reached by always answering "
            f"{common[:40]!r}: the target shows nothing; bring more rows, and rows that differ"
        )
