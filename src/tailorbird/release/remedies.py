"""Remedies for a run that ended without a release: the target that its best candidate proves, the items it lacks, or better answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.evidence import Evidence, Finding, GateResult, Verdict
from tailorbird.domain.ladder import Climb
from tailorbird.domain.objective import Kpi, Objective
from tailorbird.release.gate import interval_at
from tailorbird.stats.comparison_sentences import MOST_ITEMS
from tailorbird.stats.intervals import spend
from tailorbird.stats.metric_direction import lower_is_better

#: What repeats a run on the same inputs.
REPEATED = "repeat the run: tailorbird adapt OBJECTIVE --again"


@dataclass(frozen=True)
class EndedClimb:
    """The candidate of a climb that came closest, with its last look at the sealed test where one was taken.

    ``counts`` are the rows of each split, ``looks`` the number of the last look (0 without one).
    """

    objective: Objective
    closest: Climb
    counts: SplitCounts
    test: tuple[Evidence, GateResult] | None = None
    looks: int = 0


def remedies(ended: EndedClimb) -> tuple[str, ...]:
    """Sentences on what could lead to a release, for each KPI and limit that is not proven."""
    unproven = tuple(_unproven(ended))
    lines = [line for finding in unproven for line in _remedies(ended, finding)]
    if unproven and all(finding.name in ended.objective.limits.serving for finding in unproven):
        lines.append(f"where the machine was busy, or another is to serve, {REPEATED}")
    return tuple(lines)


def _unproven(ended: EndedClimb) -> Iterator[Finding]:
    """Findings that did not pass on dev, then those that passed there but not on the sealed test."""
    on_dev = {each.name: each for each in ended.closest.gate.findings}
    on_test = {each.name: each for each in ended.test[1].findings} if ended.test else {}
    for name, finding in on_dev.items():
        tested = on_test.get(name)
        if finding.verdict is not Verdict.PASS:
            yield finding
        elif tested is not None and tested.verdict is not Verdict.PASS:
            yield tested


def _remedies(ended: EndedClimb, finding: Finding) -> Iterator[str]:
    kpi = next((each for each in ended.objective.kpis if each.metric == finding.name), None)
    if kpi is None:
        yield f"{finding.name}: {finding.reason}"
        return
    name, less = f"{ended.closest.rung.value} {ended.closest.variant}", lower_is_better(kpi.metric)
    proven = _proven(ended, kpi)
    if proven is not None and (proven > 0 or less):
        where = "dev and test together prove" if ended.test else "dev proves"
        bound = "at least" if less else "at most"
        decides = "whether that is good enough is the owner's decision"
        yield f"{kpi.metric}: a `target` of {bound} {proven:g} is what {where} of {name}; {decides}"
    if finding.value is None:
        return
    if finding.value > finding.bound if less else finding.value < finding.bound:
        yield (
            f"{kpi.metric}: {name} is at {finding.value:.3f}, short of {finding.bound:g}: that takes better answers, from more or cleaner "
            "training rows (tailorbird data fix), a clearer instruction or a larger base model"
        )
    elif finding.items_needed and finding.items_needed <= MOST_ITEMS:
        on_test = ended.test is not None and finding in ended.test[1].findings
        yield _more_items(kpi, finding, ended.counts, "test" if on_test else "dev")


def _more_items(kpi: Kpi, finding: Finding, counts: SplitCounts, split: str) -> str:
    """Items of a split that are lacking, and the rows of which so many fall into that split."""
    needed, held = finding.items_needed or 0, getattr(counts, split)
    rows = math.ceil(needed * (counts.train + counts.dev + counts.test) / held) if held else 0
    at_this = f", about {rows:,} more rows at the present split" if rows else ""
    items = f"{needed:,} more independent {split} item{'s' if needed > 1 else ''}"
    return f"{kpi.metric}: {items}{at_this} would prove {finding.bound:g}, if it stays at {finding.value:.3f}"


def _proven(ended: EndedClimb, kpi: Kpi) -> float | None:
    """The highest target (lowest, where less is better) that dev, and the next look at the test where one was taken, would find proven; in
    hundredths, rounded to the safe side. None where it has no value."""
    asked, less = ended.objective.business.risk.confidence, lower_is_better(kpi.metric)
    ends = []
    seen = [(ended.closest.evidence, 1)] + ([(ended.test[0], ended.looks + 1)] if ended.test else [])
    for evidence, look in seen:
        metric = evidence.metrics.get(kpi.metric)
        if metric is None:
            return None
        ends.append(interval_at(metric, spend(asked, look))[1 if less else 0])
    return math.ceil(round(100 * max(ends), 6)) / 100 if less else math.floor(round(100 * min(ends), 6)) / 100
