"""Statistical power of a split, and of its shifted part, to prove a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.objective import Kpi, Objective
from tailorbird.domain.plan import PlannedComparison, Power, Reason, ShiftPower
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, MetricSpec, answers_of, parse_metric
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.stats.intervals import score_interval, spend, wilson
from tailorbird.stats.metric_direction import SCOPE_METRICS, base_of, first_compared, label_of, margin_in, measure_of
from tailorbird.stats.paired_tests import never_differing
from tailorbird.stats.power import HOSTED_RUNGS, RUNGS, ClusterSizes, grouped_low, grouped_rate_for_release, rate_for_release
from tailorbird.text.dates import time_of

#: A target that is proposed supposes that so many answers are right, and is a multiple of the step.
_SUPPOSED, _STEP = 0.90, 0.05

#: The sizes of the groups that rows of a split fall into: of all, or of those that bear a label. Nothing where each stands alone.
GroupSizes = Callable[[Split, str | None], Sequence[int]]


def alone(_split: Split, _label: str | None) -> Sequence[int]:
    """No item shares a group."""
    return ()


def check_power(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes = alone) -> tuple[tuple[Power, ...], tuple[Power, ...]]:
    """What dev and test can prove about each share.

    Raises ObjectiveInvalid at the line of a KPI that the test split cannot prove even with every item right. Dev is only reported: it
    chooses, it does not prove.

    A target is proven when the lower end of the Wilson score interval reaches it, at the confidence that a first look at the gate must
    meet. ``recall[label]`` rests on the label's rows; so, roughly, does ``precision[label]``, as if the label were given as often as it
    occurs. Where items share groups, they are reckoned as the fewer items that they are worth when items of a group are as alike as
    ``stats.power`` assumes. Means over labels or items (macro_f1, balanced_accuracy, token_f1) are treated like a share of all rows, an
    approximation. ``log_loss`` has no bound that n alone would tell, and is left out. With several labels an item, only proportions are
    looked at (recall, precision, exact_match): one item counts several times in an F1, whose interval a bootstrap gives at the gate.
    """
    confidence = spend(file.objective.business.risk.confidence, 1)
    answers = answers_of(file.objective.task)
    shares = [(index, kpi) for index, kpi in enumerate(file.objective.kpis) if _is_share(CATALOGUE[parse_metric(kpi.metric).base], answers)]
    held = [[_held(kpi, manifest, split, groups) for split in (Split.DEV, Split.TEST)] for _, kpi in shares]
    tier, rungs = file.objective.business.risk.confidence, HOSTED_RUNGS if file.objective.hosted else RUNGS
    found = [_powers(kpi, splits, tier, rungs) for (_, kpi), splits in zip(shares, held, strict=True)]
    dev, test = tuple(ours for ours, _ in found), tuple(theirs for _, theirs in found)
    faults = [
        Fault(file.line_of(f"kpis.{index}.target"), _message(power, splits[1], confidence), _hint(power, splits, confidence))
        for (index, _), power, splits in zip(shares, test, held, strict=True)
        if not power.provable
    ]
    raise_faults(file.source, faults)
    return dev, test


@dataclass(frozen=True)
class _Held:
    """What a split holds of items that bear on a KPI; ``groups`` where any share one."""

    n: int
    groups: ClusterSizes | None

    def low(self, rate: float, confidence: float) -> float:
        """The lower end of the interval of an observed ``rate``."""
        if not self.n:
            return 0.0
        return score_interval(rate, self.n, confidence)[0] if self.groups is None else grouped_low(rate, self.groups, confidence)


def _held(kpi: Kpi, manifest: SnapshotManifest, split: Split, groups: GroupSizes) -> _Held:
    sizes = groups(split, parse_metric(kpi.metric).label)
    n = sum(sizes) or _items(kpi, manifest, split)
    return _Held(n, ClusterSizes.of(sizes) if any(size > 1 for size in sizes) else None)


def _powers(kpi: Kpi, splits: Sequence[_Held], tier: float, rungs: int) -> list[Power]:
    """What dev and test can prove at a first look, with the true value that it takes to be released, four times out of five, as the last
    of so many rungs."""
    (dev, test), confidence = splits, spend(tier, 1)
    if all(held.groups is None for held in splits):
        rate = rate_for_release((dev.n, test.n), kpi.target, tier, rungs, scores=not CATALOGUE[parse_metric(kpi.metric).base].proportion)
    else:
        rate = grouped_rate_for_release(
            (dev.groups or ClusterSizes({1: dev.n}), test.groups or ClusterSizes({1: test.n})), kpi.target, tier, rungs
        )
    return [_power(kpi, held, confidence).model_copy(update={"must_be": rate}) for held in splits]


def _is_share(spec: MetricSpec, answers: AnswerKinds) -> bool:
    return not spec.of_some and (spec.proportion or (spec.higher_is_better and answers is not AnswerKinds.LABELS))


def _items(kpi: Kpi, manifest: SnapshotManifest, split: Split) -> int:
    return manifest.unshifted(parse_metric(kpi.metric).label, split)


def _power(kpi: Kpi, held: _Held, confidence: float) -> Power:
    """``must_observe`` is the smallest hits / n whose lower bound reaches the target; 1 when even n of n does not."""

    def reached(hits: int) -> bool:
        return held.n > 0 and held.low(hits / held.n, confidence) >= kpi.target

    provable = reached(held.n)
    must_observe = _smallest(reached, held.n) / held.n if provable else 1.0
    groups = held.groups.number if held.groups else None
    return Power(kpi=kpi.metric, target=kpi.target, n=held.n, must_observe=must_observe, provable=provable, groups=groups)


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


def _message(power: Power, held: _Held, confidence: float) -> str:
    rest = f"{power.n} test rows" if power.n else "no test rows"
    shared = f" in {power.groups} groups" if power.groups else ""
    best = held.low(1.0, confidence)
    return f"{rest}{shared} cannot prove {power.kpi} >= {power.target:g} at {confidence:.1%} confidence: all right would prove {best:.3f}"


def highest_provable(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes) -> dict[str, float]:
    """By metric, the highest target that dev and test can prove of it by their sizes, as ``check_power`` reckons."""
    confidence, answers = spend(file.objective.business.risk.confidence, 1), answers_of(file.objective.task)
    shares = [kpi for kpi in file.objective.kpis if _is_share(CATALOGUE[parse_metric(kpi.metric).base], answers)]
    return {kpi.metric: _highest([_held(kpi, manifest, split, groups) for split in (Split.DEV, Split.TEST)], confidence) for kpi in shares}


def _highest(splits: Sequence[_Held], confidence: float) -> float:
    return min(held.low(1.0, confidence) for held in splits)


def _hint(power: Power, splits: Sequence[_Held], confidence: float) -> str:
    """Rows that share groups are reckoned by what rows of such groups are worth when all of them are right. The target that is named is one
    that dev can prove, too: another would be refused next."""
    held, best = splits[1], _highest(splits, confidence)
    label, alone = parse_metric(power.kpi).label, _needed(power.target, confidence)
    needed = math.ceil(alone * (held.groups.typical if held.groups else 1)) if alone else None
    rows = "test rows" if label is None else f"test rows labelled {label!r}"
    highest = math.floor(1000 * best) / 1000
    lower = f"lower the target to {highest:g}" if highest else ""
    more = f"bring at least {needed:,} {rows} (all of them right)" if needed else ""
    if needed and held.groups and needed <= held.n:
        groups = max(alone or 0, held.groups.number + 1)
        more = f"bring {rows} that are less alike, or of more subjects: at least {groups:,} groups (all of them right)"
    return " or ".join(part for part in (more, lower) if part)


def provable_target(metric: str, file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes, highest: float) -> float:
    """The largest multiple of 0.05, at most ``highest``, that dev and test prove at a first look when 90 of 100 answers are right; at least
    0.05."""
    confidence = spend(file.objective.business.risk.confidence, 1)
    kpi = Kpi(metric=metric, target=_STEP)
    low = min(_held(kpi, manifest, split, groups).low(_SUPPOSED, confidence) for split in (Split.DEV, Split.TEST))
    return max(1, math.floor(min(low, highest) / _STEP + 1e-9)) * _STEP


#: The sizes of the groups that rows of the shifted part fall into. Nothing where each stands alone.
ShiftedSizes = Callable[[Split], Sequence[int]]


def _alone(_split: Split) -> Sequence[int]:
    return ()


def check_shift_power(file: ObjectiveFile, manifest: SnapshotManifest, groups: ShiftedSizes = _alone) -> tuple[ShiftPower, ...]:
    """What the shifted part of dev and of test can prove; nothing where there is none.

    Raises ObjectiveInvalid at the line of a limit that either cannot prove, however good a candidate is.

    The drop is the metric on the usual items less that on the shifted ones, and the upper end of its interval must stay within the limit.
    Where a candidate has every item of both right, that end is one less the lower end of the shifted share: what it leaves open no
    candidate without a drop could prove to be absent.
    """
    if manifest.shift is None:
        return ()
    confidence = spend(file.objective.business.risk.confidence, 1)
    found = tuple(_shift_power(manifest, split, groups(split), confidence) for split in (Split.DEV, Split.TEST))
    limit = file.objective.limits.shift
    if limit is not None:
        line = file.line_of("limits.shift.max_drop")
        raise_faults(file.source, [_fault(line, power, limit.max_drop, confidence) for power in found if power.open > limit.max_drop])
    return found


def _shift_power(manifest: SnapshotManifest, split: Split, sizes: Sequence[int], confidence: float) -> ShiftPower:
    assert manifest.shift is not None
    n = int(getattr(manifest.shift.counts, split.value))
    grouped = ClusterSizes.of(sizes) if any(size > 1 for size in sizes) else None
    low = 0.0 if not n else score_interval(1.0, n, confidence)[0] if grouped is None else grouped_low(1.0, grouped, confidence)
    return ShiftPower(split=split, n=n, open=1 - low, groups=grouped.number if grouped else None)


def _fault(line: int, power: ShiftPower, bound: float, confidence: float) -> Fault:
    shared = f" in {power.groups} groups" if power.groups else ""
    what = f"{power.n} rows{shared} of the shifted part in {power.split.value} cannot prove a drop of at most {bound:g}"
    why = f"{what} at {confidence:.1%} confidence: all right on both sides would leave {power.open:.3f} open"
    raised = f"raise `max_drop` to {math.ceil(1000 * power.open) / 1000:g}"
    if not bound or power.open >= 1:
        return Fault(line, why, raised if power.open < 1 else "bring rows of the shifted part")
    more = math.ceil(power.n * (1 - bound) / bound * power.open / (1 - power.open))
    return Fault(line, why, f"bring about {more:,} rows of the shifted part for {power.split.value}, a larger `split.share`, or {raised}")


def shift_faults(file: ObjectiveFile) -> list[Fault]:
    """A limit on what is not there, and a shifted part that is said in two ways or in none."""
    policy, limit, faults = file.objective.split, file.objective.limits.shift, list[Fault]()
    if limit is not None and policy is None:
        hint = "add `split: {by: COLUMN}`: a column of times, sources or customers that every row has"
        faults.append(Fault(file.line_of("limits.shift"), "`limits.shift` needs to know which rows have shifted", hint))
    if policy is None:
        return faults
    if policy.since is not None and (policy.values or policy.kind == "value"):
        faults.append(
            Fault(file.line_of("split.since"), "`since` is a time, and rows are split by values", "keep one of `since` and `values`")
        )
    if policy.values and policy.kind == "time":
        faults.append(
            Fault(file.line_of("split.values"), "`values` are listed, and rows are split by time", "use `since`, or `kind: value`")
        )
    if isinstance(policy.since, str) and time_of(policy.since) is None:
        faults.append(Fault(file.line_of("split.since"), "`since` is no time", "write YYYY-MM-DD, with hours where you like"))
    return faults


#: Means over labels.
_OVER_LABELS = frozenset({"macro_f1", "balanced_accuracy"})
#: What some ways to adapt, or some items, have no score of: it is compared only where nothing else is.
_PARTIAL = frozenset({"groundedness", "referral_recall", "referral_precision", "tool_call_accuracy", "field_score"})
_SOURCE = "docs/decisions/0048"


def plan_comparison(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes = alone) -> PlannedComparison:
    """The metric that the objective names; otherwise the first KPI whose dev and test items can prove the margin, and where none can, the
    one with the smallest margin that they can prove, in multiples of what is asked."""
    objective = file.objective
    names = [objective.compare_on] if objective.compare_on else _of_answers(objective)
    names = [name for name in names if base_of(name) not in _PARTIAL] or names
    offers = [_offer(name, file, manifest, groups) for name in names]
    proven = next((offer for offer in offers if offer.proves), None)
    chosen = proven or min(offers, key=lambda offer: offer.least / offer.margin if offer.margin else offer.least)
    return PlannedComparison(
        metric=chosen.metric,
        margin=chosen.margin,
        unit=measure_of(chosen.metric).unit,
        dev_smallest=chosen.dev,
        test_smallest=chosen.test,
        reason=Reason(rule="compare_on", text="; ".join(_words(chosen, objective.compare_on is not None, len(offers))), source=_SOURCE),
    )


def margin_for(file: ObjectiveFile, metric: str) -> float:
    """The margin of ``metric``, in its unit: what the objective says, or the metric's default."""
    objective = file.objective
    untouched = "margin" not in file.lines and objective.margin == type(objective).model_fields["margin"].default
    stated = {} if untouched else objective.margin
    return margin_in(stated, metric, objective.compare_on or first_compared(kpi.metric for kpi in objective.kpis))


def _of_answers(objective: Objective) -> list[str]:
    """The metrics of the KPIs in which candidates can be compared; accuracy, where none is about answers."""
    return list(dict.fromkeys(kpi.metric for kpi in objective.kpis if kpi.metric not in SCOPE_METRICS)) or ["accuracy"]


@dataclass(frozen=True)
class _Offer:
    """A metric with its margin, and the smallest one that dev and test can prove."""

    metric: str
    margin: float
    dev: float
    test: float

    @property
    def least(self) -> float:
        """What both can prove."""
        return max(self.dev, self.test)

    @property
    def proves(self) -> bool:
        """Whether two candidates that never differ would be proven to tie."""
        return self.least <= self.margin


def _offer(metric: str, file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes) -> _Offer:
    confidence = file.objective.business.risk.confidence
    dev = _smallest_margin(metric, manifest, Split.DEV, groups, confidence)
    test = _smallest_margin(metric, manifest, Split.TEST, groups, spend(confidence, 1))
    return _Offer(metric, margin_for(file, metric), dev, test)


def _smallest_margin(metric: str, manifest: SnapshotManifest, split: Split, groups: GroupSizes, confidence: float) -> float:
    """The smallest margin of ``metric``, in its unit, that ``split`` can prove at ``confidence``."""
    measure, sizes = measure_of(metric), groups(split, label_of(metric))
    items = comparable_items(metric, manifest, split, sizes)
    shared = len(sizes) if any(size > 1 for size in sizes) else None
    return measure.span * (never_differing(items, confidence, shared) if items >= 1 else 1.0)


def comparable_items(metric: str, manifest: SnapshotManifest, split: Split, sizes: Sequence[int] = ()) -> float:
    """The independent items that a difference in ``metric`` rests on; ``sizes`` are those of the groups that they fall into."""
    label = label_of(metric)
    count = sum(sizes) or manifest.unshifted(label, split)
    alike = float(len(sizes)) if any(size > 1 for size in sizes) else float(count)
    if base_of(metric) not in _OVER_LABELS:
        return alike
    support = [held for name in manifest.labels if (held := manifest.unshifted(name, split))]
    return min(alike, len(support) ** 2 / sum(1 / held for held in support)) if support else 0.0


def _words(chosen: _Offer, asked: bool, offered: int) -> Iterator[str]:
    unit = measure_of(chosen.metric).unit
    why = "as the objective asks" if asked else "the only KPI" if offered == 1 else ""
    if not why:
        why = "the first KPI whose items can prove the margin" if chosen.proves else "of the KPIs, the one whose items can prove most"
    yield f"candidates are compared on {chosen.metric}, {why}; the margin is {chosen.margin:g} ({unit})"
    if not chosen.proves:
        what = f"dev can prove no margin below {chosen.dev:.3f} and test none below {chosen.test:.3f}, even for two that never differ"
        yield f"{what}: no tie can be proven"
