"""The gate: a target is passed when it is proven, failed when it is refuted, and open otherwise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.release import average, evidence, gate, name_of, objective, share
from tailorbird.domain.evidence import Comparison, Evidence, Finding, Metric, Standing, Verdict
from tailorbird.domain.objective import CostLimit, Kpi, LatencyLimit, Limits, MaxDrop, MaxExtractable, Referral, RiskTier
from tailorbird.release import GateInputs, apply_gate, interval_at
from tailorbird.stats.intervals import clustered_wilson, score_interval, spend, wilson

RANK = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


def _only(*metrics: Metric, **changes: object) -> Finding:
    (finding,) = gate(*metrics, **changes).findings
    return finding


@pytest.mark.parametrize(
    ("hits", "verdict"),
    [
        (372, Verdict.PASS),  # [0.902, 0.950] at the 93.9 % that a first look must meet
        (371, Verdict.INCONCLUSIVE),  # [0.899, 0.948], though it would pass at a plain 90 %
        (350, Verdict.INCONCLUSIVE),  # [0.841, 0.903]
        (348, Verdict.FAIL),  # [0.835, 0.898]
    ],
)
def test_the_interval_decides_not_the_value(hits: int, verdict: Verdict) -> None:
    assert gate(share("accuracy", hits, 400)).verdict is verdict


def test_an_open_target_says_how_many_items_would_settle_it() -> None:
    finding = _only(share("accuracy", 370, 400))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.items_needed is not None
    total = 400 + finding.items_needed
    assert score_interval(0.925, total, spend(0.9, 1))[0] >= 0.9 - 1e-9
    assert score_interval(0.925, total - 2, spend(0.9, 1))[0] < 0.9


def test_a_metric_that_is_absent_is_open_with_the_reason() -> None:
    finding = _only(kpis=(Kpi(metric="precision[refund]", target=0.5),))
    assert (finding.verdict, finding.value, finding.n) == (Verdict.INCONCLUSIVE, None, 0)


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.1, 0.3, Verdict.PASS), (0.3, 0.7, Verdict.INCONCLUSIVE), (0.8, 0.9, Verdict.FAIL)])
def test_log_loss_must_stay_below_its_target(low: float, high: float, verdict: Verdict) -> None:
    finding = _only(average("log_loss", (low + high) / 2, low, high), kpis=(Kpi(metric="log_loss", target=0.5),))
    assert finding.verdict is verdict


def test_one_failure_fails_the_whole_and_one_open_target_leaves_it_open() -> None:
    kpis = (Kpi(metric="accuracy", target=0.9), Kpi(metric="recall[refund]", target=0.8))
    good, bad, thin = share("accuracy", 395, 400), share("recall[refund]", 50, 100), share("recall[refund]", 17, 20)
    assert gate(good, bad, kpis=kpis).verdict is Verdict.FAIL
    assert gate(good, thin, kpis=kpis).verdict is Verdict.INCONCLUSIVE
    assert gate(good, share("recall[refund]", 99, 100), kpis=kpis).verdict is Verdict.PASS
    assert gate(share("accuracy", 300, 400), thin, kpis=kpis).verdict is Verdict.FAIL


def test_limits_are_judged_by_the_end_of_their_interval() -> None:
    limits = Limits(latency_p95_ms=LatencyLimit(max=800), cost_per_1k_requests=CostLimit(max=0.4))
    good = share("accuracy", 395, 400)
    fast, cheap = average("latency_p95_ms", 500, 450, 560), average("cost_per_1k_requests", 0.02, 0.01, 0.03)
    assert gate(good, fast, cheap, limits=limits).verdict is Verdict.PASS
    assert gate(good, average("latency_p95_ms", 790, 700, 840), cheap, limits=limits).verdict is Verdict.INCONCLUSIVE
    assert gate(good, fast, average("cost_per_1k_requests", 0.9, 0.8, 1.0), limits=limits).verdict is Verdict.FAIL
    assert gate(good, fast, limits=limits).verdict is Verdict.INCONCLUSIVE, "what nobody measured never passes"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(retention=MaxDrop(max_drop=0.02)), "retention is not measured"),
        (Limits(memorisation=MaxExtractable(max_extractable=0)), "memorisation is not measured"),
    ],
)
def test_a_limit_nobody_measured_never_passes(limits: Limits, says: str) -> None:
    result = gate(share("accuracy", 400, 400), average("latency_p95_ms", 5, 4, 6), limits=limits)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert says in result.reason


_COUNTS = st.integers(1, 600).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)))
_TARGETS = st.floats(0.01, 1.0)


@given(counts=_COUNTS, target=_TARGETS, look=st.integers(1, 9), risk=st.sampled_from(RiskTier))
def test_more_hits_never_lower_the_verdict(counts: tuple[int, int, int], target: float, look: int, risk: RiskTier) -> None:
    fewer, more = sorted(counts[:2])
    kpis = (Kpi(metric="accuracy", target=target),)
    lower, upper = (gate(share("accuracy", hits, counts[2]), look=look, risk=risk, kpis=kpis).verdict for hits in (fewer, more))
    assert RANK[upper] >= RANK[lower]


@given(counts=_COUNTS, target=_TARGETS, look=st.integers(1, 9))
def test_later_looks_never_pass_what_earlier_ones_did_not(counts: tuple[int, int, int], target: float, look: int) -> None:
    metric, kpis = share("accuracy", counts[0], counts[2]), (Kpi(metric="accuracy", target=target),)
    if gate(metric, look=look + 1, kpis=kpis).verdict is Verdict.PASS:
        assert gate(metric, look=look, kpis=kpis).verdict is Verdict.PASS


@given(
    hits=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    targets=st.lists(_TARGETS, min_size=4, max_size=4),
    absent=st.booleans(),
)
def test_only_proof_passes(hits: list[int], targets: list[float], absent: bool) -> None:
    """The whole passes exactly when every finding does; each finding that passes has its lower end at the target; nothing absent passes."""
    kpis = tuple(Kpi(metric=f"recall[l{i}]", target=targets[i]) for i in range(len(hits)))
    metrics = [share(f"recall[l{i}]", count, 40) for i, count in enumerate(hits)]
    result = gate(*(metrics[1:] if absent else metrics), kpis=kpis)
    assert (result.verdict is Verdict.PASS) == all(finding.verdict is Verdict.PASS for finding in result.findings)
    for finding in result.findings:
        if finding.verdict is Verdict.PASS:
            assert finding.low is not None
            assert finding.low >= finding.bound
            assert finding.items_needed is None
    if absent:
        assert result.verdict is not Verdict.PASS


def test_a_clustered_interval_is_widened_without_forgetting_its_clusters() -> None:
    """Re-solving an interval of 90 % at 95 % gives the one of 95 %, up to the difference between Student's and normal quantiles."""
    outcomes = [i // 2 % 10 != 0 for i in range(400)]
    groups = [f"g{i // 2}" for i in range(400)]
    low, high = clustered_wilson(outcomes, groups, 0.90)
    metric = Metric(name="accuracy", value=0.9, low=low, high=high, confidence=0.9, n=400, method="wilson-clustered")
    assert interval_at(metric, 0.90) == (low, high)
    assert interval_at(metric, 0.95) == pytest.approx(clustered_wilson(outcomes, groups, 0.95), abs=1e-3)
    assert interval_at(metric, 0.95) != pytest.approx(wilson(360, 400, 0.95), abs=1e-3)


@given(hits=st.integers(0, 200), n=st.integers(1, 200), wanted=st.floats(0.8, 0.999))
def test_wilsons_ends_give_back_the_items_they_rest_on(hits: int, n: int, wanted: float) -> None:
    hits = min(hits, n)
    low, high = wilson(hits, n, 0.9)
    bare = Metric(name="accuracy", value=hits / n, low=low, high=high, confidence=0.9, n=n, method="wilson-clustered")
    assert interval_at(bare, wanted) == pytest.approx(wilson(hits, n, wanted), abs=1e-6)


def test_an_interval_without_width_rests_on_no_items() -> None:
    bare = Metric(name="accuracy", value=0.5, low=0.5, high=0.5, confidence=0.9, n=10, method="wilson")
    assert interval_at(bare, 0.95) == (0.0, 1.0)


def test_other_intervals_stretch_by_the_quantiles_and_stay_in_range() -> None:
    stretched = interval_at(average("macro_f1", 0.9, 0.88, 0.93), 0.95)
    ratio = 1.959964 / 1.644854
    assert stretched == pytest.approx((0.9 - 0.02 * ratio, 0.9 + 0.03 * ratio), abs=1e-6)
    assert interval_at(average("macro_f1", 0.5, 0.02, 0.98), 0.99) == (0.0, 1.0)
    assert interval_at(average("log_loss", 0.9, 0.5, 1.3), 0.99)[1] > 1.3


def test_a_candidate_must_not_be_worse_than_what_answers_now() -> None:
    good = share("accuracy", 400, 400)
    for low, high, verdict in ((-0.01, 0.05, Verdict.PASS), (-0.05, 0.01, Verdict.INCONCLUSIVE), (-0.09, -0.03, Verdict.FAIL)):
        against = average("against_incumbent", (low + high) / 2, low, high)
        assert gate(good, against).verdict is verdict
    # Twenty items leave more open than the margin even where the two never differ.
    assert gate(good, average("against_incumbent", 0.0, -0.119, 0.119, n=20)).verdict is Verdict.PASS
    # They leave 0.150 open: a difference that may be larger is not proven to be none.
    assert gate(good, average("against_incumbent", 0.0, -0.14, 0.14, n=20)).verdict is Verdict.INCONCLUSIVE


def test_where_no_smallest_margin_was_measured_that_of_the_objective_holds() -> None:
    found = against("chrf", -0.5, -0.6, -0.4, 0.02)
    assert found.against_incumbent is not None
    bare = found.model_copy(update={"against_incumbent": found.against_incumbent.model_copy(update={"smallest_margin": None})})
    judged = apply_gate(GateInputs(objective=objective(), evidence=bare, look=1))
    assert judged.verdict is Verdict.FAIL


def test_a_finding_says_the_proven_end_in_thousandths_on_the_safe_side() -> None:
    finding = _only(share("accuracy", 371, 400))
    assert finding.low is not None
    assert f"{math.floor(1000 * finding.low) / 1000:.3f}" in finding.reason


def against(metric: str, difference: float, low: float, high: float, margin: float, reason: str = "") -> Evidence:
    """Evidence of a candidate that was compared with the incumbent in ``metric``."""
    found = Comparison(
        upper=name_of("new"),
        lower=name_of("old"),
        metric=metric,
        n=400,
        difference=difference,
        low=low,
        high=high,
        confidence=spend(0.9, 1),
        wins=1,
        losses=1,
        p_value=1.0,
        margin=margin,
        standing=Standing.NOT_PROVEN,
        less_is_better=metric in ("log_loss", "brier"),
        smallest_margin=0.007,
        reason=reason,
    )
    measured = [] if reason else [average("against_incumbent", difference, low, high).model_copy(update={"confidence": spend(0.9, 1)})]
    told = {"against_incumbent": found, "unmeasured": {"against_incumbent": reason} if reason else {}}
    return evidence(share("accuracy", 400, 400), *measured).model_copy(update=told)


@pytest.mark.parametrize(
    ("compared", "verdict"),
    [
        (against("log_loss", -0.5, -1.7, -0.3, 0.05), Verdict.PASS),
        (against("log_loss", 1.5, 1.2, 1.9, 0.05), Verdict.FAIL),
        (against("log_loss", 0.02, -0.03, 0.07, 0.05), Verdict.INCONCLUSIVE),
        (against("chrf", -0.5, -0.6, -0.4, 0.02), Verdict.FAIL),
        (against("chrf", -0.03, -0.045, -0.015, 0.05), Verdict.PASS),
        (against("ece", 0.0, 0.0, 0.0, 0.02, "ece is undefined"), Verdict.INCONCLUSIVE),
    ],
)
def test_against_the_incumbent_direction_margin_and_unit_are_the_metrics(compared: Evidence, verdict: Verdict) -> None:
    result = apply_gate(GateInputs(objective=objective(), evidence=compared, look=1))
    (finding,) = [finding for finding in result.findings if finding.name == "against_incumbent"]
    assert finding.verdict is result.verdict is verdict


def test_a_target_met_by_what_is_referred_is_judged_by_what_is_answered() -> None:
    good = share("accuracy", 400, 400)
    wishes = {"referral": Referral(max_error=0.05)}
    assert gate(good, share("selective_risk", 2, 300), **wishes).verdict is Verdict.PASS
    assert gate(good, share("selective_risk", 30, 300), **wishes).verdict is Verdict.FAIL
    assert gate(good, **wishes).verdict is Verdict.INCONCLUSIVE


def test_a_kpi_on_a_class_with_four_test_items_stays_open_however_good_they_are() -> None:
    kpis = (Kpi(metric="recall[rare]", target=0.8),)
    found = gate(share("recall[rare]", 4, 4), kpis=kpis)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.findings[0].items_needed
    undefined = gate(share("accuracy", 400, 400), kpis=kpis)
    assert undefined.verdict is Verdict.INCONCLUSIVE
    assert "too few items" in undefined.reason
