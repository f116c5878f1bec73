"""Gate: verdict pass, fail or inconclusive on each metric, at the confidence that its look needs; and remedies where nothing passed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.evidence import Evidence, Finding, GateResult, Metric, Verdict
from tailorbird.domain.ladder import Climb
from tailorbird.domain.objective import Kpi, Objective
from tailorbird.evaluation.metrics import CATALOGUE, lower_is_better, margin_in, spec_of_metric
from tailorbird.reporting.comparison_sentences import MOST_ITEMS, what_settles
from tailorbird.stats.intervals import items_needed_for_proportion, score_interval, spend, wilson
from tailorbird.stats.paired_tests import items_needed_for_difference

#: Metrics that are differences, and so may be negative; and readings, beside metrics of answers, that may exceed 1.
_DIFFERENCES = frozenset({"retention", "against_incumbent", "shift"})
_UNBOUNDED = frozenset({"latency_p95_ms", "cost_per_1k_requests", "tokens_per_request", "answer_tokens", "memorisation"})
#: Methods of metrics that were counted, not estimated: what they say holds at any confidence.
EXACT = frozenset({"count", "weights unchanged"})


def interval_at(metric: Metric, confidence: float, compared: str | None = None) -> tuple[float, float]:
    """Two-sided interval of ``metric`` at ``confidence``; of a difference, ``compared`` is the metric that differs.

    Proportions that carry their counts are recomputed exactly. Other Wilson intervals (clustered items) are re-solved at the effective
    number of items that their ends give away. Everything else is stretched around the value by the ratio of the normal quantiles, an
    approximation that is exact where the estimate is normal; shares stay within [0, 1], differences within what the metric allows, the rest
    above 0.
    """
    if metric.method in EXACT:
        return metric.low, metric.high
    if metric.hits is not None and metric.n:
        return wilson(metric.hits, metric.n, confidence)
    if confidence == metric.confidence:
        return metric.low, metric.high
    if metric.method.startswith("wilson"):
        # Each end L of Wilson's interval solves (p − L)² = z² L (1 − L) / n, so either end gives n back. Less than one item
        # bounds nothing.
        end = metric.low if metric.low < metric.value else metric.high
        distance = (metric.value - end) ** 2
        spread = _quantile(metric.confidence) ** 2 * end * (1 - end)
        # Nine digits are more than the ends carry; the rounding keeps one item from passing for a little less.
        size = round(spread / distance, 9) if distance else 0.0
        return score_interval(metric.value, size, confidence) if size >= 1 else (0.0, 1.0)
    stretch = _quantile(confidence) / _quantile(metric.confidence)
    low = metric.value - stretch * (metric.value - metric.low)
    high = metric.value + stretch * (metric.high - metric.value)
    if metric.name in _DIFFERENCES:
        most = spec_of_metric(compared).highest if compared else 1.0
        return max(-most, low), min(most, high)
    spec = CATALOGUE.get(metric.name)
    is_share = metric.name not in _UNBOUNDED and (spec is None or spec.highest == 1)
    return max(0.0, low), min(1.0, high) if is_share else high


def _quantile(confidence: float) -> float:
    """The two-sided critical value of the normal distribution."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


_AGAINST = "against_incumbent"
#: How many decimals a metric is told in; three where none is named.
_DECIMALS = {"latency_p95_ms": 1, "cost_per_1k_requests": 4, "memorisation": 0}


@dataclass(frozen=True)
class GateInputs:
    """Inputs of the gate. ``look`` is the number (1-based) of this look at the split; on dev every climb counts as the first."""

    objective: Objective
    evidence: Evidence
    look: int


@dataclass(frozen=True)
class _Demand:
    """One KPI or limit: the named metric must be at least (or ``at_most``) ``bound``. ``told_as`` is its name in a sentence, where another
    says more."""

    name: str
    kind: str
    bound: float
    at_most: bool
    told_as: str = ""

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return self.told_as or self.name


def apply_gate(inputs: GateInputs) -> GateResult:
    """Verdict on a candidate, with the reasons. Raises InvalidInput when ``look`` is below 1.

    A KPI passes when the lower end of its interval reaches the target (where less is better, as for ``log_loss``: when the upper end
    stays within it), fails when the whole interval misses it, and is inconclusive otherwise. Limits are judged by the same rule against
    their maximum: the upper end of the interval counts, not the value. Where a release answers in production already, the candidate must
    also be proven not worse than it by more than the margin, or than so few items can tell (``against_incumbent``, a paired difference in
    the metric by which the objective compares). All must pass; one failure fails the whole; anything open leaves it open. Looks are
    corrected (``intervals.spend``), KPIs are not: demanding all of them only makes passing harder.
    """
    asked = inputs.objective.business.risk.confidence
    adjusted = spend(asked, inputs.look)
    findings = tuple(_finding(demand, inputs.evidence, adjusted) for demand in _demands(inputs))
    return GateResult(
        verdict=_overall(findings),
        split=inputs.evidence.split,
        confidence=asked,
        adjusted_confidence=adjusted,
        look=inputs.look,
        findings=findings,
        reason=_summary(findings),
    )


def unprovable_next(inputs: GateInputs) -> str:
    """Why the next look could prove nothing: a share whose items are too few for its stricter interval, even with all of them right. Empty
    where every share could be proven. Raises as ``apply_gate``."""
    confidence = spend(inputs.objective.business.risk.confidence, inputs.look + 1)
    for kpi in inputs.objective.kpis:
        metric = inputs.evidence.metrics.get(kpi.metric)
        if metric is None or not metric.method.startswith("wilson") or lower_is_better(kpi.metric):
            continue
        best = score_interval(1.0, metric.n, confidence)[0]
        if best < kpi.target:
            items = f"all of {metric.n} items right would prove {best:.3f}"
            return f"look {inputs.look + 1} could not prove {kpi.metric} >= {kpi.target:g}: {items} at {confidence:.1%} confidence"
    return ""


def _demands(inputs: GateInputs) -> Iterator[_Demand]:
    objective = inputs.objective
    for kpi in objective.kpis:
        yield _Demand(kpi.metric, "kpi", kpi.target, lower_is_better(kpi.metric))
    if objective.referral and objective.referral.max_error is not None:
        yield _Demand("selective_risk", "limit", objective.referral.max_error, True)
    limits = objective.limits
    if limits.retention:
        yield _Demand("retention", "limit", limits.retention.max_drop, True)
    if limits.memorisation:
        yield _Demand("memorisation", "limit", limits.memorisation.max_extractable, True)
    if limits.shift:
        yield _Demand("shift", "limit", limits.shift.max_drop, True)
    if limits.latency_p95_ms:
        yield _Demand("latency_p95_ms", "limit", limits.latency_p95_ms.max, True)
    if limits.cost_per_1k_requests:
        yield _Demand("cost_per_1k_requests", "limit", limits.cost_per_1k_requests.max, True)
    # Not worse than the release that answers now by more than the margin, in the metric's own unit and direction; or than so
    # few items leave open even where the two never differ: a smaller margin could not be met by the incumbent itself. Where
    # labels were added or given up since, the labels that both know are compared (``usecases.runs.measurement``).
    evidence, found = inputs.evidence, inputs.evidence.against_incumbent
    if found is not None:
        margin = max(found.margin, _rounded_up(found.smallest_margin or 0.0))
        bound = margin if found.less_is_better else -margin
        over = f" (over the {len(found.labels):,} labels that both know)" if found.labels else ""
        yield _Demand(_AGAINST, "limit", bound, found.less_is_better, f"{found.metric} {_AGAINST}{over}")
    elif (metric := evidence.metrics.get(_AGAINST)) is not None:
        critical = NormalDist().inv_cdf((1 + spend(inputs.objective.business.risk.confidence, inputs.look)) / 2) ** 2
        least = _rounded_up(critical / (metric.n + critical))
        yield _Demand(_AGAINST, "limit", -max(margin_in(inputs.objective.margin, "accuracy", "accuracy"), least), False)


def _rounded_up(margin: float) -> float:
    return math.ceil(round(1000 * margin, 6)) / 1000


def _finding(demand: _Demand, evidence: Evidence, confidence: float) -> Finding:
    metric = evidence.metrics.get(demand.name)
    if metric is None:
        return _open(demand, evidence.unmeasured.get(demand.name) or f"{demand.name} is not measured: too few items bear on it")
    compared = evidence.against_incumbent.metric if evidence.against_incumbent and demand.name == _AGAINST else evidence.compared_on or None
    low, high = interval_at(metric, confidence, compared)
    verdict = _verdict(demand, low, high)
    needed = _items_needed(demand, metric, (low, high), confidence) if verdict is Verdict.INCONCLUSIVE else None
    return Finding(
        name=demand.name,
        kind=demand.kind,
        bound=demand.bound,
        value=metric.value,
        low=low,
        high=high,
        n=metric.n,
        verdict=verdict,
        reason=_reason(demand, metric, (low, high), verdict, needed),
        items_needed=needed,
    )


def _open(demand: _Demand, reason: str) -> Finding:
    return Finding(
        name=demand.name,
        kind=demand.kind,
        bound=demand.bound,
        value=None,
        low=None,
        high=None,
        n=0,
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
    )


def _verdict(demand: _Demand, low: float, high: float) -> Verdict:
    if demand.at_most:
        low, high, bound = -high, -low, -demand.bound
    else:
        bound = demand.bound
    if low >= bound:
        return Verdict.PASS
    return Verdict.FAIL if high < bound else Verdict.INCONCLUSIVE


def _items_needed(demand: _Demand, metric: Metric, interval: tuple[float, float], confidence: float) -> int | None:
    """How many more items would settle it if the value stayed as it is; None when the value stands on the bound itself."""
    if metric.hits is not None:
        needed = items_needed_for_proportion(metric.hits, metric.n, demand.bound, confidence)
    else:
        around = (interval[0] - demand.bound, interval[1] - demand.bound)
        needed = items_needed_for_difference(metric.value - demand.bound, around, metric.n, 0.0)
    return None if needed is None else max(1, needed)


def _overall(findings: Sequence[Finding]) -> Verdict:
    found = {finding.verdict for finding in findings}
    if Verdict.FAIL in found:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in found else Verdict.PASS


def _reason(demand: _Demand, metric: Metric, interval: tuple[float, float], verdict: Verdict, needed: int | None) -> str:
    """One finding in words. The interval's ends are rounded outwards, so that what is printed never says more than what was found."""
    value, bound = _number(metric.name, metric.value, round), f"{demand.bound:g}"
    low, high = _number(metric.name, interval[0], math.floor), _number(metric.name, interval[1], math.ceil)
    if verdict is Verdict.PASS:
        proven, end = ("stay within", f"at most {high}") if demand.at_most else ("reach", f"at least {low}")
        return f"{demand.title} {value} is proven to {proven} {bound} ({end})"
    if verdict is Verdict.FAIL:
        misses, end = ("exceeds", f"at least {low}") if demand.at_most else ("misses", f"at most {high}")
        return f"{demand.title} {value} {misses} {bound} ({end})"
    short_of = metric.value > demand.bound if demand.at_most else metric.value < demand.bound
    more = what_settles(
        needed, f"prove that it {'exceeds' if demand.at_most else 'misses'} it, if it stays as it is" if short_of else "prove it"
    )
    more = more or "no number of items settles a value on the bound itself"
    prove = "staying within" if demand.at_most else "reaching"
    return f"{demand.title} {value} [{low}, {high}] does not prove {prove} {bound}: {more}"


def _summary(findings: Sequence[Finding]) -> str:
    """The gate's verdict in one sentence: the first failure, else the first open finding, else the closest of those that pass."""
    counts = Counter(finding.verdict for finding in findings)
    for verdict, word in ((Verdict.FAIL, "fail"), (Verdict.INCONCLUSIVE, "open")):
        if counts[verdict]:
            first = next(finding for finding in findings if finding.verdict is verdict)
            more = counts[verdict] - 1
            return first.reason + (f" (and {more} more {word})" if more else "")
    closest = min(findings, key=_room)
    return closest.reason if len(findings) == 1 else f"all {len(findings)} targets and limits are proven; closest: {closest.reason}"


def _room(finding: Finding) -> float:
    """How far the judged end lies from the bound, as a share of the bound."""
    assert finding.low is not None
    assert finding.high is not None
    gap = min(abs(finding.low - finding.bound), abs(finding.high - finding.bound))
    return gap / abs(finding.bound) if finding.bound else gap


def _number(name: str, value: float, rounding: Callable[[float], int]) -> str:
    """``value`` in the metric's decimals. Rounding to six more first keeps binary noise from pushing an end one step out."""
    decimals = _DECIMALS.get(name, 3)
    return f"{rounding(round(value * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


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
        # Items of a split that are lacking, and the rows of which so many fall into that split.
        counts = ended.counts
        split = "test" if on_test else "dev"
        needed, held = finding.items_needed or 0, getattr(counts, split)
        rows = math.ceil(needed * (counts.train + counts.dev + counts.test) / held) if held else 0
        at_this = f", about {rows:,} more rows at the present split" if rows else ""
        items = f"{needed:,} more independent {split} item{'s' if needed > 1 else ''}"
        yield f"{kpi.metric}: {items}{at_this} would prove {finding.bound:g}, if it stays at {finding.value:.3f}"


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
