"""Statistical power of a split, and of its shifted part, to prove a target."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.objective import Kpi
from tailorbird.domain.plan import PlannedComparison, Power, Reason, ShiftPower
from tailorbird.evaluation.metrics import CATALOGUE, SCOPE_METRICS, answers_of, base_of, first_compared, label_of, margin_in, spec_of_metric
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.stats.intervals import score_interval, spend
from tailorbird.stats.paired_tests import never_differing
from tailorbird.stats.power import HOSTED_RUNGS, RUNGS, ClusterSizes, grouped_low, grouped_rate_for_release, rate_for_release

#: A target that is proposed supposes that so many answers are right, and is a multiple of the step.
_SUPPOSED, _STEP = 0.90, 0.05

#: The sizes of the groups that rows of a split fall into: of all, or of those that bear a label. Nothing where each stands alone.
GroupSizes = Callable[[Split, str | None], Sequence[int]]


def alone(_split: Split, _label: str | None) -> Sequence[int]:
    """No item shares a group."""
    return ()


@dataclass(frozen=True)
class _Held:
    """The items of a split that bear on a KPI; ``groups`` where any share one."""

    n: int
    groups: ClusterSizes | None

    @classmethod
    def of(cls, n: int, sizes: Sequence[int]) -> _Held:
        return cls(sum(sizes) or n, ClusterSizes.of(sizes) if any(size > 1 for size in sizes) else None)

    def low(self, rate: float, confidence: float) -> float:
        """The lower end of the interval of an observed ``rate``."""
        if not self.n:
            return 0.0
        return score_interval(rate, self.n, confidence)[0] if self.groups is None else grouped_low(rate, self.groups, confidence)


def _held(metric: str, manifest: SnapshotManifest, groups: GroupSizes) -> tuple[_Held, _Held]:
    """What dev and test hold of items that bear on ``metric``."""
    label = label_of(metric)
    dev, test = (_Held.of(manifest.unshifted(label, split), groups(split, label)) for split in (Split.DEV, Split.TEST))
    return dev, test


def split_power(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes = alone) -> tuple[tuple[Power, ...], tuple[Power, ...]]:
    """What dev and test can prove about each share.

    A target is proven when the lower end of the Wilson score interval reaches it, at the confidence that a first look at the gate must
    meet. ``recall[label]`` rests on the label's rows; so, roughly, does ``precision[label]``, as if the label were given as often as it
    occurs. Where items share groups, they are reckoned as the fewer items that they are worth when items of a group are as alike as
    ``stats.power`` assumes. Means over labels or items (macro_f1, balanced_accuracy, token_f1) are treated like a share of all rows, an
    approximation. ``log_loss`` has no bound that n alone would tell, and is left out. With several labels an item, only proportions are
    looked at (recall, precision, exact_match): one item counts several times in an F1, whose interval a bootstrap gives at the gate.
    """
    tier, rungs = file.objective.business.risk.confidence, HOSTED_RUNGS if file.objective.hosted else RUNGS
    confidence = spend(tier, 1)
    found: tuple[list[Power], list[Power]] = ([], [])
    for kpi in file.objective.kpis:
        spec = spec_of_metric(kpi.metric)
        if not spec.is_provable_by_size(answers_of(file.objective.task)):
            continue
        dev, test = held = _held(kpi.metric, manifest, groups)
        if dev.groups is None and test.groups is None:
            rate = rate_for_release((dev.n, test.n), kpi.target, tier, rungs, scores=not spec.proportion)
        else:
            clusters = (dev.groups or ClusterSizes({1: dev.n}), test.groups or ClusterSizes({1: test.n}))
            rate = grouped_rate_for_release(clusters, kpi.target, tier, rungs)
        for powers, each in zip(found, held, strict=True):
            powers.append(_power(kpi, each, confidence).model_copy(update={"must_be": rate}))
    return tuple(found[0]), tuple(found[1])


def _power(kpi: Kpi, held: _Held, confidence: float) -> Power:
    """``must_observe`` is the smallest hits / n whose lower bound reaches the target; 1 when even n of n does not."""
    must, groups = 1.0, held.groups.number if held.groups else None
    provable = held.n > 0 and held.low(1.0, confidence) >= kpi.target
    if provable:
        must = bisect_left(range(held.n), True, key=lambda hits: held.low(hits / held.n, confidence) >= kpi.target) / held.n
    return Power(kpi=kpi.metric, target=kpi.target, n=held.n, must_observe=must, provable=provable, groups=groups)


def provable_target(metric: str, file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes, highest: float) -> float:
    """The largest multiple of 0.05, at most ``highest``, that dev and test prove at a first look when 90 of 100 answers are right; at least
    0.05."""
    confidence = spend(file.objective.business.risk.confidence, 1)
    low = min(held.low(_SUPPOSED, confidence) for held in _held(metric, manifest, groups))
    return max(1, math.floor(min(low, highest) / _STEP + 1e-9)) * _STEP


def check_shift_power(
    file: ObjectiveFile, manifest: SnapshotManifest, groups: Callable[[Split], Sequence[int]] = lambda _: ()
) -> tuple[ShiftPower, ...]:
    """What the shifted part of dev and of test can prove; nothing where there is none. ``groups`` are the sizes of the groups that its rows
    fall into.

    Raises ObjectiveInvalid at the line of a limit that either cannot prove, however good a candidate is.

    The drop is the metric on the usual items less that on the shifted ones, and the upper end of its interval must stay within the limit.
    Where a candidate has every item of both right, that end is one less the lower end of the shifted share: what it leaves open no
    candidate without a drop could prove to be absent.
    """
    if manifest.shift is None:
        return ()
    confidence, limit = spend(file.objective.business.risk.confidence, 1), file.objective.limits.shift
    found, faults, line = list[ShiftPower](), list[Fault](), file.line_of("limits.shift.max_drop")
    for split in (Split.DEV, Split.TEST):
        held = _Held.of(int(getattr(manifest.shift.counts, split.value)), groups(split))
        left_open, number = 1 - held.low(1.0, confidence), held.groups.number if held.groups else None
        found.append(ShiftPower(split=split, n=held.n, open=left_open, groups=number))
        if limit is None or left_open <= limit.max_drop:
            continue
        shared = f" in {number} groups" if number else ""
        what = f"{held.n} rows{shared} of the shifted part in {split.value} cannot prove a drop of at most {limit.max_drop:g}"
        why = f"{what} at {confidence:.1%} confidence: all right on both sides would leave {left_open:.3f} open"
        hint = f"raise `max_drop` to {math.ceil(1000 * left_open) / 1000:g}" if left_open < 1 else "bring rows of the shifted part"
        if limit.max_drop and left_open < 1:
            more = math.ceil(held.n * (1 - limit.max_drop) / limit.max_drop * left_open / (1 - left_open))
            hint = f"bring about {more:,} rows of the shifted part for {split.value}, a larger `split.share`, or {hint}"
        faults.append(Fault(line, why, hint))
    raise_faults(file.source, faults)
    return tuple(found)


#: Means over labels.
_OVER_LABELS = frozenset({"macro_f1", "balanced_accuracy"})


@dataclass(frozen=True)
class _Offer:
    """A metric with its margin, and the smallest margins that dev and test can prove."""

    metric: str
    margin: float
    dev: float
    test: float

    @property
    def least(self) -> float:
        """The smallest margin that both can prove: two candidates that never differ are then proven to tie."""
        return max(self.dev, self.test)


def plan_comparison(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes = alone) -> PlannedComparison:
    """The metric that the objective names; otherwise the first KPI whose dev and test items can prove the margin, and where none can, the
    one with the smallest margin that they can prove, in multiples of what is asked."""
    objective, tier = file.objective, file.objective.business.risk.confidence
    named = [kpi.metric for kpi in objective.kpis if kpi.metric not in SCOPE_METRICS]
    names = [objective.compare_on] if objective.compare_on else list(dict.fromkeys(named)) or ["accuracy"]

    def smallest(metric: str, split: Split, confidence: float) -> float:
        sizes = groups(split, label_of(metric))
        items = comparable_items(metric, manifest, split, sizes)
        shared = len(sizes) if any(size > 1 for size in sizes) else None
        return spec_of_metric(metric).span * (never_differing(items, confidence, shared) if items >= 1 else 1.0)

    offers = [
        _Offer(name, margin_for(file, name), smallest(name, Split.DEV, tier), smallest(name, Split.TEST, spend(tier, 1)))
        for name in [name for name in names if not CATALOGUE[base_of(name)].partial] or names
    ]
    proven = next((offer for offer in offers if offer.least <= offer.margin), None)
    chosen = proven or min(offers, key=lambda offer: offer.least / offer.margin if offer.margin else offer.least)
    unit = spec_of_metric(chosen.metric).unit
    why = "as the objective asks" if objective.compare_on else "the only KPI" if len(offers) == 1 else ""
    if not why:
        why = "the first KPI whose items can prove the margin" if proven else "of the KPIs, the one whose items can prove most"
    text = f"candidates are compared on {chosen.metric}, {why}; the margin is {chosen.margin:g} ({unit})"
    if proven is None:
        what = f"dev can prove no margin below {chosen.dev:.3f} and test none below {chosen.test:.3f}, even for two that never differ"
        text += f"; {what}: no tie can be proven"
    return PlannedComparison(
        metric=chosen.metric,
        margin=chosen.margin,
        unit=unit,
        dev_smallest=chosen.dev,
        test_smallest=chosen.test,
        reason=Reason(rule="compare_on", text=text, source="docs/design/decision.md"),
    )


def margin_for(file: ObjectiveFile, metric: str) -> float:
    """The margin of ``metric``, in its unit: what the objective says, or the metric's default."""
    objective = file.objective
    untouched = "margin" not in file.lines and objective.margin == type(objective).model_fields["margin"].default
    stated = {} if untouched else objective.margin
    return margin_in(stated, metric, objective.compare_on or first_compared(kpi.metric for kpi in objective.kpis))


def comparable_items(metric: str, manifest: SnapshotManifest, split: Split, sizes: Sequence[int] = ()) -> float:
    """The independent items that a difference in ``metric`` rests on; ``sizes`` are those of the groups that they fall into."""
    label = label_of(metric)
    count = sum(sizes) or manifest.unshifted(label, split)
    alike = float(len(sizes)) if any(size > 1 for size in sizes) else float(count)
    if base_of(metric) not in _OVER_LABELS:
        return alike
    support = [held for name in manifest.labels if (held := manifest.unshifted(name, split))]
    return min(alike, len(support) ** 2 / sum(1 / held for held in support)) if support else 0.0
