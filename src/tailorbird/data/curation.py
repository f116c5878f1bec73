"""Curation: privacy policy, quality rules and protected evaluation sets applied to rows, and the report with counts and no text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.components import Tie, components
from tailorbird.data.duplicates.exact import Item, quarantine
from tailorbird.data.privacy import RedactedText, Redaction
from tailorbird.data.provenance import Amendments, amend_rows
from tailorbird.data.quality import QualityChecker
from tailorbird.data.readers import SourceRow, read_texts
from tailorbird.domain.curation import (
    ClassCount,
    Contamination,
    CoverageProfile,
    CurationPolicy,
    CurationReport,
    DuplicateGroup,
    FlowStep,
    LengthBin,
    PersonalCount,
    PersonalKind,
    PrivacyAction,
    PrivacyPolicy,
    QualityPolicy,
    QualityRule,
    RowFinding,
)
from tailorbird.domain.dataset import Quarantined, Split, SplitCounts
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Objective, Task, TaskKind


@dataclass
class CurationTally:
    """Counts, findings and quarantined rows so far. ``personal_rows`` are rows with a kind, ``personal_found`` its occurrences."""

    flow: list[FlowStep] = field(default_factory=list)
    findings: list[RowFinding] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    personal_rows: Counter[PersonalKind] = field(default_factory=Counter)
    personal_found: Counter[PersonalKind] = field(default_factory=Counter)
    quality: Counter[QualityRule] = field(default_factory=Counter)

    def step(self, name: str, before: int, gone: Sequence[Quarantined], *, changed: int = 0, repeated: int = 0) -> None:
        """Records a step that removed ``gone`` and ``repeated`` exact copies."""
        reasons = dict(sorted(Counter(entry.code for entry in gone).items())) | ({"exact_duplicate": repeated} if repeated else {})
        self.flow.append(FlowStep(name=name, before=before, after=before - len(gone) - repeated, changed=changed, reasons=reasons))

    def add(self, other: CurationTally) -> None:
        """Adds what was counted of further rows, by the same steps or others."""
        self.findings += other.findings
        self.quarantined += other.quarantined
        self.personal_rows.update(other.personal_rows)
        self.personal_found.update(other.personal_found)
        self.quality.update(other.quality)
        named = {step.name: place for place, step in enumerate(self.flow)}
        for step in other.flow:
            if step.name in named:
                self.flow[named[step.name]] = _sum(self.flow[named[step.name]], step)
            else:
                self.flow.append(step)


def _sum(one: FlowStep, other: FlowStep) -> FlowStep:
    reasons = dict(sorted((Counter(one.reasons) + Counter(other.reasons)).items()))
    before, after, changed = one.before + other.before, one.after + other.after, one.changed + other.changed
    return FlowStep(name=one.name, before=before, after=after, changed=changed, reasons=reasons)


@dataclass(frozen=True)
class RowPolicy:
    """What decides about a row by itself. ``gone`` are documents that are no answer any more."""

    objective: Objective
    privacy: Redaction
    amendments: Amendments
    gone: Collection[str] = ()


def curated(rows: Sequence[SourceRow], policy: RowPolicy, tally: CurationTally) -> tuple[list[SourceRow], list[Quarantined]]:
    """Rows of a file as policy and amendments leave them, and those that amendments took out.

    Decisions of people name rows as a snapshot shows them, so they come after personal data.
    """
    task, counted = policy.objective.task, CurationTally()
    kept = apply_privacy(rows, task, policy.privacy, counted)
    before = len(kept)
    kept, removed = amend_rows(kept, policy.amendments, policy.gone)
    counted.step("amendments", before, removed)
    kept = apply_quality(kept, task, policy.objective.curation.quality, counted)
    tally.add(counted)
    return kept, removed


@dataclass(frozen=True)
class ProtectedTexts:
    """Distinct normalised texts, and for each the path of the set that it is of."""

    texts: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


def protected_texts(objective: Objective, folder: Path) -> ProtectedTexts:
    """The texts of all protected sets. Raises DataInvalid or Unavailable as reading does."""
    found: dict[str, str] = {}
    for one in objective.curation.protected:
        for text in read_texts(one, folder):
            found.setdefault(text, one.path)
    return ProtectedTexts(tuple(found), tuple(found.values()))


def exclude_protected(
    items: Sequence[Item], protected: ProtectedTexts, ties: Sequence[Tie], tally: CurationTally
) -> tuple[list[int], Counter[str]]:
    """Places of the items that no tie connects to a protected text; and how many rows were set aside for each set.

    ``ties`` are of the items' texts followed by the protected ones.
    """
    if not protected.texts:
        return list(range(len(items))), Counter()
    size = len(items)
    touched: dict[int, str] = {}
    for part in components(range(size + len(protected.texts)), ties):
        sets = [protected.sets[place - size] for place in part if place >= size]
        if sets:
            touched |= dict.fromkeys((place for place in part if place < size), min(sets))
    gone = [
        quarantine(items[place].row, "contaminates_protected", f"the row, or one nearly like it, is in the protected set {name}")
        for place, name in sorted(touched.items())
    ]
    tally.step("protected sets", size, gone)
    tally.quarantined += gone
    return [place for place in range(size) if place not in touched], Counter(touched.values())


def apply_quality(rows: Sequence[SourceRow], task: Task, policy: QualityPolicy, tally: CurationTally) -> list[SourceRow]:
    """Rows that pass the quality rules, or break them without being dropped."""
    quality = QualityChecker(policy, answers=task.kind is TaskKind.GENERATE)
    kept: list[SourceRow] = []
    gone: list[Quarantined] = []
    for row in rows:
        broken = quality.broken(row.text, row.target)
        if not broken:
            kept.append(row)
            continue
        tally.quality.update(broken)
        dropped = quality.drops(broken)
        tally.findings += [
            RowFinding(file=row.place.file, line=row.line, code=f"quality.{rule.value}", action="drop" if rule is dropped else "reported")
            for rule in broken
        ]
        if dropped:
            reason = f"the row breaks the rule {dropped.value}"
            gone.append(Quarantined(file=row.place.file, line=row.line, code=f"quality_{dropped.value}", reason=reason))
        else:
            kept.append(row)
    tally.step("quality", len(rows), gone)
    tally.quarantined += gone
    return kept


def require_rows(rows: Sequence[SourceRow], tally: CurationTally) -> None:
    """Raises DataInvalid when none are left."""
    if not rows:
        raise DataInvalid("no rows are left after curation", _most_frequent(tally), code="nothing_left")


def _most_frequent(tally: CurationTally) -> str:
    reasons: dict[str, int] = {}
    for step in tally.flow:
        for code, count in step.reasons.items():
            reasons[code] = reasons.get(code, 0) + count
    if not reasons:
        return "bring rows"
    code = max(reasons, key=lambda name: reasons[name])
    return f"the most frequent reason is {code} ({reasons[code]:,} rows): soften `curation`, or bring other rows"


#: Rows that are looked at together.
_AT_ONCE = 10_000
_CHANGING = (PrivacyAction.REDACT, PrivacyAction.PSEUDONYMISE)


def apply_privacy(rows: Sequence[SourceRow], task: Task, privacy: Redaction, tally: CurationTally) -> list[SourceRow]:
    """Texts, and answers where rows have answers, after the policy; rows that must go are put into the tally's quarantine."""
    kept: list[SourceRow] = []
    gone: list[Quarantined] = []
    changed = 0
    for row, parts in _treated(rows, task, privacy):
        if any(part.failed for part in parts):
            gone.append(quarantine(row, "detector_failed", "a detector of personal data failed on the row: nobody knows what it holds"))
            continue
        if not any(part.counts for part in parts):
            kept.append(row)
            continue
        counts = _note(row, parts, privacy.policy, tally)
        if any(part.drop for part in parts):
            kinds = ", ".join(kind.value for kind in counts if privacy.policy.action(kind) is PrivacyAction.DROP)
            gone.append(
                Quarantined(file=row.place.file, line=row.line, code="personal_data", reason=f"the row holds personal data: {kinds}")
            )
            continue
        after = _rewritten(row, parts, counts, privacy.policy)
        changed += after is not row
        kept.append(after)
    tally.step("personal data", len(rows), gone, changed=changed)
    tally.quarantined += gone
    return kept


def _treated(rows: Sequence[SourceRow], task: Task, privacy: Redaction) -> Iterator[tuple[SourceRow, list[RedactedText]]]:
    """Each row with its text, and its answer where rows have answers, after the policy."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        texts = privacy.treat([row.text for row in some])
        answers = privacy.treat([row.target for row in some]) if task.kind is TaskKind.GENERATE else None
        for place, row in enumerate(some):
            yield row, [texts[place]] if answers is None else [texts[place], answers[place]]


def _note(row: SourceRow, parts: Sequence[RedactedText], policy: PrivacyPolicy, tally: CurationTally) -> dict[PersonalKind, int]:
    counts: dict[PersonalKind, int] = {}
    for part in parts:
        for kind, count in part.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    tally.personal_rows.update(counts.keys())
    tally.personal_found.update(counts)
    tally.findings += [
        RowFinding(file=row.place.file, line=row.line, code=f"privacy.{kind.value}", count=count, action=policy.action(kind).value)
        for kind, count in sorted(counts.items())
    ]
    return counts


def _rewritten(row: SourceRow, parts: Sequence[RedactedText], counts: dict[PersonalKind, int], policy: PrivacyPolicy) -> SourceRow:
    done = tuple(f"{policy.action(kind).value}:{kind.value}" for kind in sorted(counts) if policy.action(kind) in _CHANGING)
    if not done:
        return row
    target = parts[1].text if len(parts) > 1 else row.target
    return replace(row, text=parts[0].text, target=target, transforms=(*row.transforms, *done))


def refuse_personal_data(policy: PrivacyPolicy, tally: CurationTally) -> None:
    """Raises DataInvalid when a kind was found for which the data set is to be refused."""
    refused = [kind for kind in sorted(tally.personal_rows) if policy.action(kind) is PrivacyAction.REFUSE]
    if refused:
        counted = ", ".join(f"{kind.value} in {tally.personal_rows[kind]:,} rows" for kind in refused)
        first = next(finding for finding in tally.findings if finding.action == PrivacyAction.REFUSE)
        hint = f"take it out of the files (first in {first.file}, line {first.line}), or let `curation.privacy` redact or drop it"
        raise DataInvalid(f"the data hold what the objective refuses: {counted}", hint, code="personal_data_refused")


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
    conflicting = sum(len({items[place].row.target for place in places}) > 1 for places in alike) if labelled else 0
    least = min(nlargest(NAMED_GROUPS, map(len, alike)), default=0)
    large = [places for places in alike if len(places) >= least]
    largest = nsmallest(NAMED_GROUPS, large, key=lambda places: (-len(places), min([items[place].id for place in places])))
    return NearDuplicateGroups(tuple(_group(items, places, labelled=labelled) for places in largest), len(alike), conflicting)


def report_of(policy: CurationPolicy, schemes: Mapping[str, str], tally: CurationTally, outcome: CurationOutcome) -> CurationReport:
    """Curation report, without suspects and findings."""
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
