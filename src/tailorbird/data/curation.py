"""Curation: privacy policy, quality rules and protected evaluation sets applied to rows, and the report with counts and no text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.exact import Item, quarantine
from tailorbird.data.privacy import RedactedText, Redaction
from tailorbird.data.provenance import Amendments, amend_rows
from tailorbird.data.quality import QualityChecker
from tailorbird.data.readers.sources import SourceRow
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
        """Adds a step that removed ``gone`` and ``repeated`` exact copies, of further rows where it was taken before."""
        earlier = next((step for step in self.flow if step.name == name), None)
        known = earlier or FlowStep(name=name, before=0, after=0)
        reasons = Counter(known.reasons) + Counter(entry.code for entry in gone) + Counter(exact_duplicate=repeated)
        done = FlowStep(
            name=name,
            before=known.before + before,
            after=known.after + before - len(gone) - repeated,
            changed=known.changed + changed,
            reasons=dict(sorted(reasons.items())),
        )
        self.flow = [done if step is earlier else step for step in self.flow] if earlier else [*self.flow, done]


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
    kept = apply_privacy(rows, policy.objective.task, policy.privacy, tally)
    before = len(kept)
    kept, removed = amend_rows(kept, policy.amendments, policy.gone)
    tally.step("amendments", before, removed)
    return apply_quality(kept, policy.objective.task, policy.objective.curation.quality, tally), removed


def apply_privacy(rows: Sequence[SourceRow], task: Task, privacy: Redaction, tally: CurationTally) -> list[SourceRow]:
    """Rows with their texts, and answers where rows have answers, after the policy; others are put into the tally's quarantine."""
    kept, gone, changed, policy = list[SourceRow](), list[Quarantined](), 0, privacy.policy
    for row, parts in _treated(rows, task, privacy):
        if not any(part.counts or part.failed for part in parts):
            kept.append(row)
            continue
        if any(part.failed for part in parts):
            gone.append(quarantine(row, "detector_failed", "a detector of personal data failed on the row: nobody knows what it holds"))
            continue
        counts = sum((Counter(part.counts) for part in parts), Counter[PersonalKind]())
        tally.personal_rows.update(counts.keys())
        tally.personal_found.update(counts)
        tally.findings += [
            RowFinding(file=row.place.file, line=row.line, code=f"privacy.{kind.value}", count=count, action=policy.action(kind).value)
            for kind, count in sorted(counts.items())
        ]
        if any(part.drop for part in parts):
            kinds = ", ".join(kind.value for kind in counts if policy.action(kind) is PrivacyAction.DROP)
            gone.append(quarantine(row, "personal_data", f"the row holds personal data: {kinds}"))
            continue
        done = tuple(f"{policy.action(kind).value}:{kind.value}" for kind in sorted(counts) if policy.action(kind) in _CHANGING)
        if done:
            target = parts[1].text if len(parts) > 1 else row.target
            row = replace(row, text=parts[0].text, target=target, transforms=(*row.transforms, *done))
            changed += 1
        kept.append(row)
    tally.step("personal data", len(rows), gone, changed=changed)
    tally.quarantined += gone
    return kept


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
            gone.append(quarantine(row, f"quality_{dropped.value}", f"the row breaks the rule {dropped.value}"))
        else:
            kept.append(row)
    tally.step("quality", len(rows), gone)
    tally.quarantined += gone
    return kept


#: Rows that are looked at together.
_AT_ONCE = 10_000
_CHANGING = (PrivacyAction.REDACT, PrivacyAction.PSEUDONYMISE)


def _treated(rows: Sequence[SourceRow], task: Task, privacy: Redaction) -> Iterator[tuple[SourceRow, list[RedactedText]]]:
    """Each row with its text, and its answer where rows have answers, after the policy."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        texts = privacy.treat([row.text for row in some])
        answers = privacy.treat([row.target for row in some]) if task.kind is TaskKind.GENERATE else None
        for place, row in enumerate(some):
            yield row, [texts[place]] if answers is None else [texts[place], answers[place]]


def refuse_personal_data(policy: PrivacyPolicy, tally: CurationTally) -> None:
    """Raises DataInvalid when a kind was found for which the data set is to be refused."""
    refused = [kind for kind in sorted(tally.personal_rows) if policy.action(kind) is PrivacyAction.REFUSE]
    if refused:
        counted = ", ".join(f"{kind.value} in {tally.personal_rows[kind]:,} rows" for kind in refused)
        first = next(finding for finding in tally.findings if finding.action == PrivacyAction.REFUSE)
        hint = f"take it out of the files (first in {first.file}, line {first.line}), or let `curation.privacy` redact or drop it"
        raise DataInvalid(f"the data hold what the objective refuses: {counted}", hint)


#: Groups that a report names: the largest ones.
NAMED_GROUPS = 1000
#: Rows below which a label is rare; and the share of the median label's rows.
RARE, RARE_SHARE = 10, 0.1


def report_of(
    tally: CurationTally,
    policy: CurationPolicy,
    schemes: Mapping[str, str],
    items: Sequence[Item],
    alike: Sequence[Sequence[int]],
    protected: Mapping[str, int],
    labels: Mapping[str, SplitCounts],
    lengths: NDArray[np.int32],
    test_rows: int,
) -> CurationReport:
    """Curation report, without suspects and findings. ``alike`` are the places of near-duplicates among ``items``, two or more each;
    ``protected`` counts rows set aside by protected set; ``lengths`` are in characters.

    A share of n test rows is known to within 1.96 √(0.25 / n) at 95 % (normal approximation, at one half).
    """
    least = min(nlargest(NAMED_GROUPS, map(len, alike)), default=0)
    large = [places for places in alike if len(places) >= least]
    groups = list[DuplicateGroup]()
    for places in nsmallest(NAMED_GROUPS, large, key=lambda places: (-len(places), min([items[place].id for place in places]))):
        targets = Counter(items[place].row.target for place in places) if labels else Counter[str]()
        rows = tuple(sorted(items[place].id for place in places))
        groups.append(DuplicateGroup(id=rows[0], rows=rows, labels=dict(sorted(targets.items())), conflicting=len(targets) > 1))
    codes = Counter(entry.code for entry in tally.quarantined)
    leaks = {split.value: codes[f"contaminates_{split.value}"] for split in (Split.DEV, Split.TEST)}
    totals = {label: counts.train + counts.dev + counts.test for label, counts in labels.items()}
    few = max(RARE, RARE_SHARE * median(totals.values())) if totals else 0
    # Bins of lengths double: fewer than 16 characters, 16 to 31, 32 to 63, ...
    bins = np.bincount(np.maximum(4, np.frexp(lengths.astype(np.float64))[1])).tolist()
    return CurationReport(
        schemes=dict(sorted(schemes.items())),
        policy=policy,
        flow=tuple(tally.flow),
        personal=tuple(
            PersonalCount(kind=kind, rows=rows, occurrences=tally.personal_found[kind], action=policy.privacy.action(kind))
            for kind, rows in sorted(tally.personal_rows.items())
        ),
        quality={rule.value: count for rule, count in sorted(tally.quality.items())},
        groups=tuple(groups),
        group_count=len(alike),
        conflicting_groups=sum(len({items[place].row.target for place in places}) > 1 for places in alike) if labels else 0,
        contamination=tuple(
            Contamination(protected=name, rows=rows) for name, rows in [*leaks.items(), *sorted(protected.items())] if rows
        ),
        profile=CoverageProfile(
            classes=tuple(
                ClassCount(label=label, train=counts.train, dev=counts.dev, test=counts.test, rare=totals[label] < few)
                for label, counts in sorted(labels.items())
            ),
            lengths=tuple(
                LengthBin(start=0 if bits == 4 else 1 << (bits - 1), end=1 << bits, rows=rows) for bits, rows in enumerate(bins) if rows
            ),
            imbalance=round(max(totals.values()) / max(1, min(totals.values())), 2) if totals else 1.0,
            smallest_provable=round(min(1.0, 1.96 * math.sqrt(0.25 / max(1, test_rows))), 4),
        ),
    )
