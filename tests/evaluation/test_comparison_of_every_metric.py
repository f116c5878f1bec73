"""Two candidates in any metric of the catalogue: finite, mirrored, honest about what is alike, and with the direction that users mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.evidence import Comparison, ItemResult, Standing
from tailorbird.evaluation.comparison import MOST_UNDEFINED, ComparisonRule, compare, differing_items
from tailorbird.evaluation.metrics import CATALOGUE, AnswerKinds, lower_is_better
from tailorbird.stats.paired_tests import never_differing
from tailorbird.text.label_rules import join

UPPER, LOWER = digest_bytes(b"upper"), digest_bytes(b"lower")
MIRRORED = {Standing.BETTER: Standing.WORSE, Standing.WORSE: Standing.BETTER}
LABELS = ("refund", "delivery", "login")
_OF_ITEMS = (
    *("token_f1", "rouge_l", "chrf", "format_valid", "refusal_rate", "groundedness"),
    *("ndcg@10", "mrr@10", "recall@10", "recall@100", "ordinal_score", "within_one"),
)
_OF_SOME = ("referral_recall", "referral_precision", "tool_call_accuracy", "field_score")

#: Every metric as an objective would write it, with whether items bear several labels.
METRICS = [
    (f"{name}[refund]" if spec.labelled else name, answers is AnswerKinds.LABELS)
    for name, spec in CATALOGUE.items()
    for answers in spec.answers
    if spec.compared and (answers is not AnswerKinds.TEXT or name != "exact_match")
]


def rule(metric: str, *, many: bool = False, margin: float = 0.02) -> ComparisonRule:
    return ComparisonRule(metric=metric, margin=margin, many=many, refer_below=(0.6, 0.5))


def name_of(number: int) -> str:
    return digest_bytes(str(number).encode())


@st.composite
def sides(draw: st.DrawFn, many: bool) -> tuple[list[ItemResult], list[ItemResult]]:
    """Two candidates' items: few or many, alone or in groups, with scores at the ends of their ranges as often as between."""
    count, groups = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from([0.0, 0.02, 1.0]))
    texts = (
        [join(random.choice(LABELS, random.integers(0, 3), replace=False)) for _ in range(count)] if many else random.choice(LABELS, count)
    )

    def answers() -> list[ItemResult]:
        return [item(number, str(text)) for number, text in enumerate(texts)]

    def item(number: int, target: str) -> ItemResult:
        wrong = random.random() < 0.3
        prediction = str(random.choice(LABELS)) if wrong else target
        scores = {name: float(np.clip(0.5 + spread * (random.random() - 0.5) * 4, 0, 1)) for name in _OF_ITEMS}
        scores |= {name: float(scores[name] > 0.5) for name in ("format_valid", "refusal_rate", "within_one")}
        scores |= {name: float(random.random() < 0.5) for name in _OF_SOME if target == "refund"}
        return ItemResult(
            item=name_of(number),
            group=f"g{number % groups}",
            target=target,
            prediction=prediction,
            correct=prediction == target,
            log_loss=float(random.exponential(spread)),
            confidence=float(random.random()),
            scores=scores | {"brier": float(2 * random.random() * spread)},
        )

    return answers(), answers()


@pytest.mark.parametrize(("metric", "many"), METRICS)
@settings(max_examples=8)
@given(data=st.data())
def test_every_metric_compares(metric: str, many: bool, data: st.DataObject) -> None:
    upper, lower = data.draw(sides(many))
    asked = rule(metric, many=many, margin=data.draw(st.sampled_from([0.0, 0.02, 0.3])))
    found, swapped = compare(UPPER, LOWER, upper, lower, asked), compare(LOWER, UPPER, lower, upper, swapped_of(asked))
    assert all(map(math.isfinite, (found.difference, found.low, found.high, found.p_value)))
    assert found.low <= found.difference <= found.high
    assert found.low < found.high
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx((-found.difference, -found.high, -found.low), abs=1e-9)
    assert (swapped.wins, swapped.losses, swapped.p_value) == (found.losses, found.wins, pytest.approx(found.p_value))
    assert swapped.standing is MIRRORED.get(found.standing, found.standing)
    assert found.less_is_better == lower_is_better(metric)
    alike = compare(UPPER, LOWER, upper, upper, ComparisonRule(metric=metric, margin=asked.margin, many=many, refer_below=(0.6, 0.6)))
    assert alike.standing in (Standing.TIE, Standing.NOT_PROVEN)
    assert alike.difference == 0
    assert differing_items(upper, upper, ComparisonRule(metric=metric, many=many, refer_below=(0.6, 0.6))) == frozenset()


def swapped_of(asked: ComparisonRule) -> ComparisonRule:
    return ComparisonRule(metric=asked.metric, margin=asked.margin, many=asked.many, refer_below=asked.refer_below[::-1])


def scored(values: dict[str, list[float]], groups: list[str] | None = None, correct: bool = False) -> list[ItemResult]:
    count = len(next(iter(values.values())))
    return [
        ItemResult(
            item=name_of(number),
            group=groups[number] if groups else name_of(number),
            target="a",
            prediction="a" if correct else "b",
            correct=correct,
            log_loss=values["log_loss"][number] if "log_loss" in values else None,
            scores={name: told[number] for name, told in values.items() if name != "log_loss"},
        )
        for number in range(count)
    ]


def spread(low: float, high: float, count: int = 300) -> list[float]:
    return [float(low + (high - low) * share) for share in np.random.default_rng(3).random(count)]


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_two_that_never_differ_tie_only_within_what_so_few_items_prove(metric: str) -> None:
    items = scored({"chrf": [1.0] * 60}, correct=True)
    least = never_differing(60, 0.90)
    for margin, standing in ((least * 1.01, Standing.TIE), (least * 0.99, Standing.NOT_PROVEN)):
        found = compare(UPPER, LOWER, items, items, rule(metric, margin=margin))
        assert (found.standing, found.smallest_margin) == (standing, pytest.approx(least))


def labelled(pairs: list[tuple[str, str]], confidence: float | None = None) -> list[ItemResult]:
    return [
        ItemResult(item=name_of(number), group=f"g{number}", target=t, prediction=p, correct=t == p, confidence=confidence)
        for number, (t, p) in enumerate(pairs)
    ]


def test_what_is_undefined_is_not_proven_and_says_why() -> None:
    targets = ["a", "b"] * 50
    right, never = labelled([(t, t) for t in targets]), labelled([(t, "a") for t in targets])
    for metric, ours in (("precision[b]", never), ("recall[z]", right), ("ece", right), ("chrf", right), ("selective_risk", right)):
        found = compare(UPPER, LOWER, ours, right, rule(metric))
        assert (found.standing, found.items_needed, found.difference) == (Standing.NOT_PROVEN, None, 0.0)
        assert found.reason


def test_a_metric_that_is_undefined_on_many_resamples_proves_nothing() -> None:
    """One item of 100 was given the label: it is in none of the draws in 37 % of them."""
    targets = ["a"] * 99 + ["b"]
    ours, theirs = labelled([(t, t) for t in targets]), labelled([(t, "b" if n in (0, 99) else "a") for n, t in enumerate(targets)])
    found = compare(UPPER, LOWER, ours, theirs, rule("precision[b]"))
    assert found.difference == pytest.approx(0.5)
    assert found.standing is Standing.NOT_PROVEN
    assert f"at most {MOST_UNDEFINED:.0%}" in found.reason


@pytest.mark.parametrize("metric", ["chrf", "log_loss"])
def test_false_claims_keep_to_their_rate(metric: str) -> None:
    """The true difference is the margin: what lies beyond may be claimed in 5 % of runs at 90 %."""
    generator, runs = np.random.default_rng(11), 200
    claimed = sum(_one_run(metric, generator).standing is Standing.BETTER for _ in range(runs))
    assert claimed / runs <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / runs)


def _one_run(metric: str, generator: np.random.Generator) -> Comparison:
    sign = -1 if lower_is_better(metric) else 1
    base = generator.random(200) * 0.3 + 0.3
    values = [float(v) for v in np.clip(base + sign * 0.02 + generator.normal(0, 0.1, 200), 0, 1)], [float(v) for v in base]
    return compare(UPPER, LOWER, scored({metric: values[0]}), scored({metric: values[1]}), rule(metric))


def sets_of(*answers: tuple[str, str]) -> list[ItemResult]:
    """Items with sets of labels: what each bears, and what it was given."""
    return [
        ItemResult(item=name_of(number), group=str(number), target=target, prediction=given, correct=target == given)
        for number, (target, given) in enumerate(answers)
    ]


def test_a_label_that_only_one_side_knows_hides_no_loss_in_the_others() -> None:
    """The upper one has learned the new label and forgotten part of an old one; over all labels it wins, over the old ones it loses."""
    upper = sets_of(*[("new", "new")] * 30, *[("refund | new", "new")] * 10, *[("refund", "refund")] * 30, *[("none", "none")] * 30)
    lower = sets_of(*[("new", "none")] * 30, *[("refund | new", "refund")] * 10, *[("refund", "refund")] * 30, *[("none", "none")] * 30)
    for metric in ("macro_f1", "micro_f1", "exact_match"):
        overall = compare(UPPER, LOWER, upper, lower, ComparisonRule(metric=metric, many=True))
        assert overall.standing is Standing.BETTER
        assert overall.labels == ()
        known = compare(UPPER, LOWER, upper, lower, ComparisonRule(metric=metric, many=True, labels=("refund",)))
        assert known.difference < 0
        assert known.high < 0
        assert known.labels == ("refund",)
