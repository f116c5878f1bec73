"""Is a split large enough to prove a target?

In: an objective and a snapshot's manifest. Out: for each KPI that is a share, the smallest value that would have to be observed.
Must not know: rows, candidates.

A target is proven when the lower end of the Wilson score interval reaches it, at the confidence that a first look at the gate must meet.
``recall[label]`` rests on the label's rows; so, roughly, does ``precision[label]`` (as if the label were given as often as it
occurs). Means over labels or items (macro_f1, balanced_accuracy, token_f1) are treated like a share of all rows, which is an
approximation. ``log_loss`` has no bound that n alone would tell, and is left out. With several labels an item, only proportions are
looked at (recall, precision, exact_match): one item then counts several times in an F1, whose interval a bootstrap gives at the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.objective import Kpi
from tailorbird.domain.plan import Power
from tailorbird.foundations.power import rate_for_power
from tailorbird.foundations.statistics import spend, wilson
from tailorbird.objective.catalogue import CATALOGUE, Answers, MetricSpec, answers_of, parse_metric
from tailorbird.objective.faults import Fault, raise_faults
from tailorbird.objective.file import ObjectiveFile


def check_power(file: ObjectiveFile, manifest: SnapshotManifest) -> tuple[tuple[Power, ...], tuple[Power, ...]]:
    """What dev and test can prove about each share.

    Raises ObjectiveInvalid at the line of a KPI that the test split cannot prove even with every item right. Dev is only reported: it
    chooses, it does not prove.
    """
    confidence = spend(file.objective.business.risk.confidence, 1)
    answers = answers_of(file.objective.task)
    shares = [(index, kpi) for index, kpi in enumerate(file.objective.kpis) if _is_share(CATALOGUE[parse_metric(kpi.metric).base], answers)]
    dev, test = (tuple(_power(kpi, _items(kpi, manifest, split), confidence) for _, kpi in shares) for split in (Split.DEV, Split.TEST))
    dev, test = _with_power(dev, test, confidence)
    faults = [
        Fault(file.line_of(f"kpis.{index}.target"), _message(power, confidence), _hint(power, kpi, confidence))
        for (index, kpi), power in zip(shares, test, strict=True)
        if not power.provable
    ]
    raise_faults(file.source, faults)
    return dev, test


def _with_power(dev: tuple[Power, ...], test: tuple[Power, ...], confidence: float) -> tuple[tuple[Power, ...], tuple[Power, ...]]:
    """Both with the true value that it takes to pass both, four times out of five."""
    needed = [rate_for_power((one.n, other.n), one.target, confidence) for one, other in zip(dev, test, strict=True)]
    ours, theirs = (
        tuple(power.model_copy(update={"must_be": rate}) for power, rate in zip(powers, needed, strict=True)) for powers in (dev, test)
    )
    return ours, theirs


def _is_share(spec: MetricSpec, answers: Answers) -> bool:
    return spec.proportion or (spec.higher_is_better and answers is not Answers.LABELS)


def _items(kpi: Kpi, manifest: SnapshotManifest, split: Split) -> int:
    label = parse_metric(kpi.metric).label
    counts = manifest.counts if label is None else manifest.label_counts.get(label)
    return 0 if counts is None else int(getattr(counts, split.value))


def _power(kpi: Kpi, n: int, confidence: float) -> Power:
    """``must_observe`` is the smallest hits / n whose lower bound reaches the target; 1 when even n of n does not."""

    def reached(hits: int) -> bool:
        return n > 0 and wilson(hits, n, confidence)[0] >= kpi.target

    provable = reached(n)
    must_observe = _smallest(reached, n) / n if provable else 1.0
    return Power(kpi=kpi.metric, target=kpi.target, n=n, must_observe=must_observe, provable=provable)


def _smallest(holds: Callable[[int], bool], high: int) -> int:
    """The smallest integer in [0, high] for which ``holds``, which is monotone and true at ``high``."""
    low = 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _needed(target: float, confidence: float) -> int | None:
    """How many items, all of them right, prove ``target``; None when more than 2^30 would not."""

    def proves(n: int) -> bool:
        return n > 0 and wilson(n, n, confidence)[0] >= target

    return _smallest(proves, 1 << 30) if proves(1 << 30) else None


def _message(power: Power, confidence: float) -> str:
    best = wilson(power.n, power.n, confidence)[0] if power.n else 0.0
    rest = f"{power.n} test rows" if power.n else "no test rows"
    return f"{rest} cannot prove {power.kpi} >= {power.target:g} at {confidence:.1%} confidence: all right would prove {best:.3f}"


def _hint(power: Power, kpi: Kpi, confidence: float) -> str:
    label, needed = parse_metric(kpi.metric).label, _needed(power.target, confidence)
    rows = "test rows" if label is None else f"test rows labelled {label!r}"
    highest = math.floor(1000 * wilson(power.n, power.n, confidence)[0]) / 1000 if power.n else 0.0
    lower = f"lower the target to {highest:g}" if highest else ""
    more = f"bring at least {needed:,} {rows} (all of them right)" if needed else ""
    return " or ".join(part for part in (more, lower) if part)
