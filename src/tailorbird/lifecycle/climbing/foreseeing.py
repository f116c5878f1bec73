"""What the sealed test will be able to prove against the release that answers now: told in the plan, before anything is spent.

In: a stage with a snapshot. Out: a ``PlannedIncumbent``, a finding where the margin cannot be proven. Must not know: rows, answers to them,
what the gate will say.

Equally good candidates that differ on many items are told apart badly: the interval of their difference is about z √(d / n) wide to each
side, with d the share of items on which they differ. How often the next candidate will differ from the incumbent nobody knows; it is taken
from when the incumbent was last compared, or reckoned from its errors.
"""

from __future__ import annotations

import math

from tailorbird.domain.dataset import Split
from tailorbird.domain.evidence import Evidence
from tailorbird.domain.examination import Finding, Severity
from tailorbird.domain.plan import PlannedComparison, PlannedIncumbent
from tailorbird.foundations.canonical import short
from tailorbird.foundations.measures import label_of, lower_is_better, measure_of
from tailorbird.foundations.statistics import disagreeing, items_for_margin, spend
from tailorbird.lifecycle.climbing.incumbent import incumbent_of
from tailorbird.lifecycle.climbing.measuring import comparison_of, groups_of
from tailorbird.lifecycle.steps.stage import Stage
from tailorbird.objective import comparable_items

#: Errors of a candidate that is not known at all, as a share of items.
_UNKNOWN = 0.2


def foreseen(stage: Stage) -> PlannedIncumbent:
    """What the test items can prove of a candidate that is as good as the incumbent; without one, as good as what the objective asks."""
    compared, release = comparison_of(stage), incumbent_of(stage)
    with stage.parts.ledger.work(stage.run.tenant, write=False) as work:
        look = work.looks.count(stage.objective.name) + 1
        known = work.records.get(Evidence, release.dossier.test_evidence) if release else None
    look = look if release else look + 1  # a first release is compared with none: its successor has the next look
    disagreement, assumption = _disagreement(stage, compared, known)
    confidence = spend(stage.objective.business.risk.confidence, look)
    sizes = groups_of(stage, stage.manifest)(Split.TEST, label_of(compared.metric))
    n = max(1.0, comparable_items(compared.metric, stage.manifest, Split.TEST, sizes))
    shared = len(sizes) if any(size > 1 for size in sizes) else None
    span = measure_of(compared.metric).span
    return PlannedIncumbent(
        release=release.digest if release else None,
        look=look,
        confidence=confidence,
        n=math.floor(n),
        disagreement=disagreement,
        provable=span * disagreeing(disagreement, n, confidence, shared),
        items_needed=items_for_margin(disagreement, compared.margin / span, confidence) if compared.margin else None,
        assumption=assumption,
    )


def incumbent_finding(found: PlannedIncumbent, compared: PlannedComparison) -> Finding | None:
    """A warning where an equally good candidate would not be proven to be so; None where it would, or where nothing answers yet."""
    if found.release is None or found.provable <= compared.margin:
        return None
    more = f"bring about {found.items_needed:,} independent test items" if found.items_needed else "more test items alone will not do"
    raised = math.ceil(100 * found.provable) / 100
    return Finding(
        code="incumbent_margin",
        severity=Severity.WARNING,
        what=(
            f"a candidate that is as good as release {short(found.release)}, which answers now, will hardly be proven to be: "
            f"{found.n:,} independent test items prove {compared.metric} alike within {found.provable:.3f}; the margin: {compared.margin:g}"
        ),
        remedy=f"{more}, or set `margin: {raised:g}` if so much may be lost",
    )


def _disagreement(stage: Stage, compared: PlannedComparison, known: Evidence | None) -> tuple[float, str]:
    """The share of items on which two equally good candidates differ, and where that is from."""
    last = known.against_incumbent if known else None
    if last is not None and last.metric == compared.metric and not last.reason:
        rate = (last.wins + last.losses) / last.n
        return rate, f"as the release that answers now and the one before it, which differed on {rate:.0%} of the items"
    errors, of_whom = _errors(stage, compared.metric, known)
    return errors, f"{of_whom} errs on {errors:.0%} of the items, and two that are equally good share half of their errors"


def _errors(stage: Stage, metric: str, known: Evidence | None) -> tuple[float, str]:
    for name in (metric, "accuracy", "exact_match") if known else ():
        measured = known.metrics.get(name) if known else None
        if measured is not None and measure_of(name).unit == "share":
            return _share_of_errors(name, measured.value), "the release that answers now"
    target = next((kpi.target for kpi in stage.objective.kpis if kpi.metric == metric and measure_of(metric).unit == "share"), None)
    if target is not None:
        return _share_of_errors(metric, target), f"a candidate that just reaches {metric} {target:g}"
    return _UNKNOWN, "a candidate of which nothing is known"


def _share_of_errors(metric: str, value: float) -> float:
    return min(1.0, max(0.01, value if lower_is_better(metric) else 1 - value))
