"""Metrics: one registry with direction, unit, interval, paired difference and default margin of each; and what computes them.

A metric with a ``score`` is a mean over items. One with a ``whole`` is of all items together, a function of item weights for the bootstrap.
Only metrics that come with an interval are on offer: a target can be proven only against an interval's end.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.chat.conversations import answer_turn, holds_tools, shown_answer
from tailorbird.chat.tool_calls import same_calls
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import DataInvalid, InvalidInput, ObjectiveInvalid
from tailorbird.domain.evidence import ItemResult, Metric, Prediction
from tailorbird.domain.objective import AnswerFormat, Task, TaskKind
from tailorbird.evaluation.calibration import LEAST_ITEMS, abstention_metrics, answered, ece_metrics, ece_over
from tailorbird.evaluation.json_answers import field_score, json_object, same_objects
from tailorbird.evaluation.measure_spec import (
    MeasureSpec,
    Worth,
    average,
    bootstrapped,
    no_narrower,
    proportion,
    share_like,
    worth_of_labels,
)
from tailorbird.evaluation.serving_limits import serving_metrics
from tailorbird.stats.intervals import Floats, Statistic, items_worth
from tailorbird.stats.label_sums import LabelSums, balanced_accuracy, macro_f1, micro_f1, shares, sums_by
from tailorbird.text.label_rules import NONE, split
from tailorbird.text.regex import matches, occurs
from tailorbird.text.words import chrf, nearest, normalise, normalise_answer, rouge_l, token_f1, word_precision


class AnswerKinds(Enum):
    """What a task answers with, as an objective writes it: which metrics fit depends on that."""

    LABEL = "kind: classify"
    LABELS = "kind: classify, labels: many"
    TEXT = "kind: generate"
    RANKING = "kind: rank"


def answers_of(task: Task) -> AnswerKinds:
    """Kind of answers of ``task``."""
    return _kind_of(task.kind, many=task.labels == "many")


def _kind_of(kind: TaskKind, *, many: bool) -> AnswerKinds:
    if kind is TaskKind.CLASSIFY:
        return AnswerKinds.LABELS if many else AnswerKinds.LABEL
    return AnswerKinds.TEXT if kind is TaskKind.GENERATE else AnswerKinds.RANKING


class AnsweredRow:
    """A row with a prediction, as the scores of one item read it."""

    def __init__(self, row: Row, prediction: Prediction, spec: MeasureSpec) -> None:
        self.row, self.prediction, self.spec = row, prediction, spec
        self.answer, self.reference = shown_answer(prediction.answer), shown_answer(row.answer)

    @cached_property
    def relevance(self) -> Relevance:
        """The grades of a ranking; empty where nothing is relevant."""
        grades = relevance_of(self.row.answer)
        return grades if any(grade > 0 for grade in grades.values()) else {}

    def levels_off(self) -> int:
        """By how many levels of the order the answer is off; by all of them where it is no level."""
        level = {name: place for place, name in enumerate(self.spec.order)}
        one, other = level.get(self.row.answer), level.get(self.prediction.answer)
        return len(level) - 1 if one is None or other is None else abs(one - other)

    def refers(self, text: str) -> bool:
        """Whether ``text`` hands over to a person."""
        return self.spec.refer_pattern is not None and occurs(self.spec.refer_pattern, text)


class Pairing(StrEnum):
    """How two candidates are compared in a metric.

    ``ITEMS``: every item has a score, and the scores' differences are averaged. ``LABEL``: the same, over the items that bear the label.
    ``WHOLE``: the metric is of all items together, and the difference is resampled.
    """

    ITEMS = "items"
    LABEL = "label"
    WHOLE = "whole"


@dataclass(frozen=True)
class CorpusMetric:
    """``value`` is the metric of weighted items, NaN where it is undefined; ``size`` the independent items that it is worth.

    ``undefined`` says why there is no value on the items as they are; empty where there is one.
    """

    value: Statistic
    size: float
    undefined: str = ""


@dataclass(frozen=True)
class MetricReading:
    """How one candidate's items are read: ``many`` labels an item; below which probability its answers are referred to a person."""

    many: bool = False
    refer_below: float | None = None


#: What makes an interval of scores, each of the group at its place.
MakeInterval = Callable[[str, Sequence[float], Sequence[str], MeasureSpec], Metric]


@dataclass(frozen=True)
class MetricSpec:
    """A metric on offer.

    ``score`` is that of one item, None where it has none; ``read`` takes it from an item's result where it is not kept by name;
    ``interval`` makes the interval of the mean. ``whole`` is the metric of all items together, for comparisons.
    A target lies in (0, ``highest``]; it is a lower bound, or an upper one where ``less`` is better. ``labelled`` metrics are written with
    a label (``recall[refund]``). ``compared``: candidates may be compared in it. ``of_some`` rests on items that no count of labels tells;
    ``sparse``: some items have no score; ``partial``: nor do some ways to adapt, so that it is compared only where nothing else is.

    ``unit`` is that of target and ``margin`` (the default). An item's score moves within a range of width ``span``; where it has no upper
    end, ``span`` is what an unseen item is assumed to differ by at most, and ``highest`` the largest difference there can be.
    """

    name: str
    answers: tuple[AnswerKinds, ...]
    description: str
    score: Callable[[AnsweredRow], float | None] | None = None
    interval: MakeInterval | None = None
    read: Callable[[ItemResult], float | None] | None = None
    whole: Callable[[Sequence[ItemResult], MetricReading, str], CorpusMetric] | None = None
    less: bool = False
    labelled: bool = False
    compared: bool = True
    of_some: bool = False
    sparse: bool = False
    partial: bool = False
    unit: str = "share"
    span: float = 1.0
    margin: float = 0.02
    highest: float = 1.0

    @property
    def written(self) -> str:
        """The name as an objective writes it."""
        return f"{self.name}[label]" if self.labelled else self.name

    @property
    def proportion(self) -> bool:
        """True for a share of items, so that their number tells what can be proven."""
        return self.interval is proportion

    @property
    def pairing(self) -> Pairing:
        """How two candidates are compared in it."""
        return Pairing.WHOLE if self.whole else Pairing.LABEL if self.labelled else Pairing.ITEMS

    @property
    def bound(self) -> float | None:
        """The largest difference of an item's scores; None where there is no end."""
        return self.span if self.span == self.highest else None

    def of_item(self, item: ItemResult) -> float | None:
        """What one item scores; None where it has no such score."""
        return self.read(item) if self.read else item.scores.get(self.name)

    def is_provable_by_size(self, answers: AnswerKinds) -> bool:
        """Whether the number of items tells which targets can be proven."""
        return not (self.of_some or self.less) and (self.proportion or answers is not AnswerKinds.LABELS)


class MetricName(NamedTuple):
    """A metric's name taken apart: ``recall[refund]`` is base ``recall``, label ``refund``."""

    base: str
    label: str | None = None


def _groups(items: Sequence[ItemResult]) -> int:
    return len({item.group for item in items})


def over_labels(items: Sequence[ItemResult], mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` of the labels that items bear and were given, as a function of item weights."""
    names = sorted({item.target for item in items} | {item.prediction for item in items})
    place = {name: i for i, name in enumerate(names)}
    borne_N, given_N = (
        np.array([place[name] for name in side], dtype=np.intp)
        for side in ([item.target for item in items], [item.prediction for item in items])
    )
    right_N, by_borne, by_given = (borne_N == given_N).astype(float), sums_by(borne_N, len(names)), sums_by(given_N, len(names))
    return lambda weights_BN: mean(LabelSums(by_borne(weights_BN), by_given(weights_BN), by_borne(weights_BN * right_N)))


@dataclass(frozen=True)
class _Marks:
    """Which items bear which labels, and which were given them: (items, labels)."""

    borne_NK: NDArray[np.bool_]
    given_NK: NDArray[np.bool_]


def labels_in(text: str, reading: MetricReading) -> tuple[str, ...]:
    """The labels of a target or of an answer."""
    return split(text) if reading.many else (text,)


def _marks(items: Sequence[ItemResult], labels: Sequence[str], *, many: bool) -> _Marks:
    place, reading = {label: k for k, label in enumerate(labels)}, MetricReading(many)
    borne, given = (np.zeros((len(items), len(labels)), dtype=bool) for _ in range(2))
    for n, item in enumerate(items):
        for marked, text in ((borne, item.target), (given, item.prediction)):
            marked[n, [place[label] for label in labels_in(text, reading) if label in place]] = True
    return _Marks(borne, given)


def _over(marks: _Marks, mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` as a function of item weights."""
    hits_NK = (marks.borne_NK & marks.given_NK).astype(float)
    given_NK, borne_NK = marks.given_NK.astype(float), marks.borne_NK.astype(float)
    return lambda weights_BN: mean(LabelSums(weights_BN @ borne_NK, weights_BN @ given_NK, weights_BN @ hits_NK))


def over_sets(items: Sequence[ItemResult], mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` of items as a function of their weights, over the labels that they bear or were given."""
    labels = sorted({label for item in items for text in (item.target, item.prediction) for label in split(text)})
    return _over(_marks(items, labels, many=True), mean)


def _over_labels(items: Sequence[ItemResult], reading: MetricReading) -> float:
    """What a mean over labels is worth where two candidates never differ: near-copies of a row differ as one, if at all."""
    return worth_of_labels(items, lambda item: ((label, True) for label in labels_in(item.target, reading))).alike


def _ece(items: Sequence[ItemResult], _: MetricReading, __: str) -> CorpusMetric:
    unsure = sum(item.confidence is None for item in items)
    if unsure:
        return _undefined(f"{unsure:,} of {len(items):,} items have no probability")
    if len(items) < LEAST_ITEMS:
        return _undefined(f"it takes {LEAST_ITEMS} items, and there are {len(items)}")
    return CorpusMetric(ece_over(items), float(_groups(items)))


def _selective_risk(items: Sequence[ItemResult], reading: MetricReading, _: str) -> CorpusMetric:
    if reading.refer_below is None:
        return _undefined("no threshold was calibrated below which answers are referred")
    kept = {item.item for item in answered(items, reading.refer_below)}
    given = [item.item in kept for item in items]
    wrong = [each and not item.correct for each, item in zip(given, items, strict=True)]
    return _share_of_some(items, wrong, given, "no item is answered: all are referred")


def _referral_precision(items: Sequence[ItemResult], _: MetricReading, __: str) -> CorpusMetric:
    referred = ["referral_precision" in item.scores for item in items]
    hits = [item.scores.get("referral_precision", 0.0) > 0 for item in items]
    return _share_of_some(items, hits, referred, "no answer refers to a person")


def _precision(items: Sequence[ItemResult], reading: MetricReading, label: str) -> CorpusMetric:
    """Precision rests on the items that were given the label."""
    marks = _marks(items, [label], many=reading.many)
    given = marks.given_NK[:, 0]
    return _share_of_some(items, marks.borne_NK[:, 0] & given, given, "no item was given the label")


def _f1(items: Sequence[ItemResult], reading: MetricReading, label: str) -> CorpusMetric:
    """F1 rests on the items that were given the label or bear it."""
    marks = _marks(items, [label], many=reading.many)
    borne, given = marks.borne_NK[:, 0], marks.given_NK[:, 0]
    return _share_of_some(items, 2.0 * (borne & given), borne.astype(float) + given, "no item bears the label or was given it")


def _share_of_some(
    items: Sequence[ItemResult], hits: Sequence[bool] | NDArray[Any], among: Sequence[bool] | NDArray[Any], why: str
) -> CorpusMetric:
    """``hits`` over ``among``, which says how much each item counts; undefined for the reason ``why`` where none does."""
    hits_N, among_N = np.array(hits, dtype=float), np.array(among, dtype=float)
    if not among_N.any():
        return _undefined(why)
    size = float(_groups([items[n] for n in np.flatnonzero(among_N).tolist()]))
    return CorpusMetric(lambda weights_BN: shares((weights_BN * hits_N).sum(axis=1), (weights_BN * among_N).sum(axis=1)), size)


def _undefined(reason: str) -> CorpusMetric:
    return CorpusMetric(lambda weights_BN: np.full(len(weights_BN), np.nan), 1.0, reason)


Relevance = Mapping[str, float]


def ndcg(ranked: Sequence[str], relevance: Relevance, k: int) -> float:
    """Normalised discounted cumulative gain of the first ``k`` documents, with the grade as gain (Järvelin & Kekäläinen 2002, as in
    trec_eval); something is relevant."""

    def gain(grades: Sequence[float]) -> float:
        return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))

    ideal = gain(sorted((grade for grade in relevance.values() if grade > 0), reverse=True)[:k])
    return gain([max(0.0, relevance.get(document, 0.0)) for document in ranked[:k]]) / ideal


def reciprocal_rank(ranked: Sequence[str], relevance: Relevance, k: int) -> float:
    """One over the rank of the first relevant document among the first ``k``; 0 where there is none."""
    return next((1 / rank for rank, document in enumerate(ranked[:k], 1) if relevance.get(document, 0) > 0), 0.0)


def recall(ranked: Sequence[str], relevance: Relevance, k: int) -> float:
    """The share of the relevant documents that stand among the first ``k``; there are some."""
    relevant = {document for document, grade in relevance.items() if grade > 0}
    return len(relevant & set(ranked[:k])) / len(relevant)


def relevance_of(target: str) -> Relevance:
    """Reads a row's target: a JSON object of document ids to grades. Raises DataInvalid."""
    try:
        found = json.loads(target)
        return {str(document): float(grade) for document, grade in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise DataInvalid("a row's relevance is not an object of document ids to grades", 'write it as {"doc-7": 2, "doc-9": 1}') from None


#: How assistants open an answer in which they decline. Matched at its beginning alone: who quotes such words later has not declined.
_REFUSAL = re.compile(
    r"^\W*("
    r"(i['’]?m (very |so |really )?)?sorry|i apologi[sz]e|unfortunately,? i|i must decline"
    r"|i (really )?(cannot|can['’]t|can not|won['’]t|will not|am unable|am not able|do not have|don['’]t have)"
    r"|i['’]m (unable|not able)|as an? (ai|artificial|language)|no,? i (cannot|can['’]t|won['’]t)"
    r"|this (request|question) (cannot|can['’]t)|it is not (possible|appropriate) for me|it would not be appropriate)"
)


def is_refusal(answer: str) -> bool:
    """True when the answer opens by declining. A rule over words: it sees English refusals of the usual kind, and no others."""
    return bool(_REFUSAL.match(normalise(answer)))


def has_form(answer: str, form: AnswerFormat) -> bool:
    """True when the whole answer has the form that is asked for; outer white space does not count."""
    text = answer.strip()
    if form.pattern is not None and not matches(form.pattern, text):
        return False
    if form.json_keys is None:
        return True
    found = json_object(text)
    return found is not None and all(key in found for key in form.json_keys)


def tool_call_score(answer: str, reference: str, text: str) -> float | None:
    """Whether the calls of an answer are those of the reference; None where the conversation offers no functions."""
    due, made = answer_turn(reference).tool_calls, answer_turn(answer).tool_calls
    return float(same_calls(made, due)) if due or holds_tools(text) else None


def _brier(log_probabilities: dict[str, float], target: str) -> float:
    """Brier's score of one item (Brier 1950), between 0 and 2: the squared distance of the probabilities from what came true."""
    said = {label: math.exp(nats) for label, nats in log_probabilities.items()}
    return sum((probability - (label == target)) ** 2 for label, probability in said.items()) + (target not in said)


_LABEL, _LABELS, _TEXT, _RANKING = ((kind,) for kind in AnswerKinds)


def _ranked(name: str, description: str, score: Callable[[Sequence[str], Relevance, int], float], first: int) -> MetricSpec:
    return MetricSpec(
        name,
        _RANKING,
        description,
        lambda row: score(row.prediction.ranking, row.relevance, first) if row.relevance else None,
        share_like,
        sparse=True,
    )


_ROWS = (
    MetricSpec("accuracy", _LABEL, "Share of items that get the right label.", interval=proportion, read=lambda item: float(item.correct)),
    MetricSpec(
        "balanced_accuracy",
        _LABEL,
        "Mean of all labels' recalls: rare labels count as much as common ones.",
        whole=lambda items, reading, _: CorpusMetric(over_labels(items, balanced_accuracy), _over_labels(items, reading)),
    ),
    MetricSpec(
        "macro_f1",
        _LABEL + _LABELS,
        "Mean of all labels' F1, the harmonic mean of precision and recall.",
        whole=lambda items, reading, _: CorpusMetric(
            over_sets(items, macro_f1) if reading.many else over_labels(items, macro_f1), _over_labels(items, reading)
        ),
    ),
    MetricSpec(
        "micro_f1",
        _LABELS,
        "F1 over all pairs of an item and a label: common labels count as often as they occur.",
        whole=lambda items, _, __: CorpusMetric(over_sets(items, micro_f1), float(_groups(items))),
    ),
    MetricSpec("f1", _LABELS, "Harmonic mean of this label's precision and recall.", whole=_f1, labelled=True),
    MetricSpec(
        "precision",
        _LABEL + _LABELS,
        "Of the items given this label, the share that deserve it.",
        interval=proportion,
        whole=_precision,
        labelled=True,
    ),
    MetricSpec(
        "recall", _LABEL + _LABELS, "Of the items that deserve this label, the share that get it.", interval=proportion, labelled=True
    ),
    MetricSpec(
        "log_loss",
        _LABEL,
        "Mean negative log-probability of the right label, in nats; the target is an upper bound.",
        interval=average,
        read=lambda item: item.log_loss,
        less=True,
        unit="nats",
        margin=0.05,
        highest=100.0,
    ),
    MetricSpec(
        "brier",
        _LABEL,
        "Mean squared distance of the probabilities from what came true, 0 to 2; the target is an upper bound.",
        lambda row: _brier(row.prediction.log_probabilities, row.row.answer) if row.prediction.log_probabilities else None,
        average,
        less=True,
        unit="squared distance",
        span=2.0,
        margin=0.04,
        highest=2.0,
    ),
    MetricSpec(
        "ece",
        _LABEL,
        "Mean distance between how sure the model says it is and how often it is right; the target is an upper bound.",
        whole=_ece,
        less=True,
    ),
    MetricSpec(
        "ordinal_score",
        _LABEL,
        "Mean nearness of an answer to the right level: 1 where it is the same, 0 at the other end; needs `task.label_order`.",
        lambda row: 1 - row.levels_off() / (len(row.spec.order) - 1) if len(row.spec.order) > 1 else None,
        share_like,
    ),
    MetricSpec(
        "within_one",
        _LABEL,
        "Share of items whose answer is at most one level off; needs `task.label_order`.",
        lambda row: float(row.levels_off() <= 1) if len(row.spec.order) > 1 else None,
        proportion,
    ),
    MetricSpec(
        "coverage",
        _LABEL + _TEXT,
        "Share of items that are answered and not referred to a person; needs `referral`.",
        lambda row: float(not row.refers(row.answer)) if row.spec.refer_pattern is not None else None,
        proportion,
    ),
    MetricSpec(
        "selective_risk",
        _LABEL,
        "Share of wrong answers among those that are given; needs `referral`; the target is an upper bound.",
        whole=_selective_risk,
        less=True,
    ),
    MetricSpec(
        "known_refused",
        _LABEL,
        "Share of items that a label fits and that are refused as out of scope; needs `task.out_of_scope`; the target is an upper bound.",
        less=True,
        compared=False,
        of_some=True,
    ),
    MetricSpec(
        "out_of_scope_answered",
        _LABEL,
        "Share of examples out of scope that get a label all the same; needs `task.out_of_scope` and examples; the target is "
        "an upper bound.",
        less=True,
        compared=False,
        of_some=True,
    ),
    MetricSpec(
        "out_of_scope_auroc",
        _LABEL,
        "How often an item that a label fits scores above one out of scope; needs `task.out_of_scope` and examples.",
        compared=False,
        of_some=True,
    ),
    MetricSpec(
        "exact_match",
        _TEXT + _LABELS,
        "Share of answers equal to the reference; of texts, case, white space and forms of Unicode do not count; of labels, "
        "the whole set does.",
        interval=proportion,
        read=lambda item: float(item.correct),
    ),
    MetricSpec(
        "token_f1",
        _TEXT,
        "Mean F1 of the words shared by answer and reference.",
        lambda row: token_f1(row.answer, row.reference),
        share_like,
    ),
    MetricSpec(
        "rouge_l",
        _TEXT,
        "Mean F1 of the longest run of words, in order, that both share.",
        lambda row: rouge_l(row.answer, row.reference),
        share_like,
    ),
    MetricSpec(
        "chrf",
        _TEXT,
        "Mean F2 of the pieces of up to six characters that both share.",
        lambda row: chrf(row.answer, row.reference),
        share_like,
    ),
    MetricSpec(
        "field_score",
        _TEXT,
        "Mean share of a JSON object's keys whose value is right, texts by token F1; needs `task.format.json_keys`.",
        lambda row: field_score(row.answer, row.reference) if row.spec.form and row.spec.form.json_keys is not None else None,
        share_like,
        sparse=True,
        partial=True,
    ),
    MetricSpec(
        "format_valid",
        _TEXT,
        "Share of answers that have the form of `task.format`.",
        lambda row: float(has_form(row.answer, row.spec.form)) if row.spec.form is not None else None,
        proportion,
    ),
    MetricSpec(
        "refusal_rate",
        _TEXT,
        "Share of answers that open by declining; the target is an upper bound.",
        lambda row: float(is_refusal(row.answer)),
        proportion,
        less=True,
    ),
    # The share of the answer's words that stand in the passages (K-precision, Adlakha 2023, arXiv 2307.16877).
    MetricSpec(
        "groundedness",
        _TEXT,
        "Mean share of an answer's words that stand in the passages it was given.",
        lambda row: word_precision(row.answer, " ".join(row.prediction.passages)) if row.prediction.passages else None,
        share_like,
        partial=True,
    ),
    MetricSpec(
        "referral_recall",
        _TEXT,
        "Of the items whose reference refers to a person, the share whose answer does; needs `referral`.",
        lambda row: float(row.refers(row.answer)) if row.refers(row.reference) else None,
        proportion,
        of_some=True,
        sparse=True,
        partial=True,
    ),
    MetricSpec(
        "referral_precision",
        _TEXT,
        "Of the items whose answer refers to a person, the share whose reference does; needs `referral`.",
        lambda row: float(row.refers(row.reference)) if row.refers(row.answer) else None,
        proportion,
        whole=_referral_precision,
        of_some=True,
        partial=True,
    ),
    # What BFCL scores as AST accuracy; where the reference calls nothing, neither does the answer (BFCL's irrelevance).
    MetricSpec(
        "tool_call_accuracy",
        _TEXT,
        "Of the items that offer functions, the share whose calls are those of the reference in name and arguments, or none.",
        lambda row: tool_call_score(row.prediction.answer, row.row.answer, row.row.text),
        proportion,
        of_some=True,
        sparse=True,
        partial=True,
    ),
    _ranked("ndcg@10", "Mean normalised discounted cumulative gain of the first ten documents.", ndcg, 10),
    _ranked(
        "mrr@10",
        "Mean of one over the rank of the first relevant document, 0 where it is not among the first ten.",
        reciprocal_rank,
        10,
    ),
    _ranked("recall@10", "Mean share of the relevant documents that stand among the first ten.", recall, 10),
    _ranked("recall@100", "Mean share of the relevant documents that stand among the first hundred.", recall, 100),
)
#: Metric name to what it is.
CATALOGUE: dict[str, MetricSpec] = {spec.name: spec for spec in _ROWS}
#: What no two candidates are compared in: metrics of requests out of scope, which rest on other rows than answers do.
SCOPE_METRICS = frozenset(spec.name for spec in _ROWS if not spec.compared)
#: Metrics that are means over items, by what tasks answer with; those of one item's answer are scored there.
_MEANS = {kind: tuple(spec for spec in _ROWS if kind in spec.answers and spec.interval and not spec.labelled) for kind in AnswerKinds}


def parse_metric(name: str) -> MetricName:
    """Takes a metric's name apart and checks it against the catalogue.

    Raises ObjectiveInvalid (without a line) when the metric is unknown, lacks the label it needs, or has one it cannot take.
    """
    base, bracket, rest = name.partition("[")
    spec = CATALOGUE.get(base)
    if spec is None:
        near, known = nearest(base, CATALOGUE), ", ".join(spec.written for spec in _ROWS)
        hint = f"did you mean {near!r}? known metrics: {known}" if near else f"known metrics: {known}"
        raise ObjectiveInvalid(f"unknown metric {name!r}", hint)
    if bracket and not (rest.endswith("]") and rest[:-1].strip()):
        raise ObjectiveInvalid(f"metric {name!r} does not read as name[label]", f"write {base}[some_label], the whole in quotes")
    if spec.labelled and not bracket:
        raise ObjectiveInvalid(f"metric {name!r} needs a label", f'write "{base}[some_label]", in quotes, for the label it should hold for')
    if bracket and not spec.labelled:
        labelled = ", ".join(spec.written for spec in _ROWS if spec.labelled)
        raise ObjectiveInvalid(f"metric {base!r} takes no label", f"write {base}, or one of {labelled}")
    return MetricName(base, rest[:-1].strip() if bracket else None)


def metrics_for(answers: AnswerKinds) -> tuple[str, ...]:
    """Names of the metrics for what a task answers with, as they are written."""
    return tuple(spec.written for spec in _ROWS if answers in spec.answers)


def base_of(metric: str) -> str:
    """A metric's name without its label."""
    return metric.partition("[")[0]


def label_of(metric: str) -> str | None:
    """The label that a metric is of; None where it is of all."""
    base, bracket, rest = metric.partition("[")
    return rest[:-1].strip() if bracket and base and rest.endswith("]") else None


def first_compared(metrics: Iterable[str]) -> str:
    """The first of ``metrics`` in which candidates are compared; accuracy, where there is none."""
    return next((metric for metric in metrics if base_of(metric) not in SCOPE_METRICS), "accuracy")


def spec_of_metric(metric: str) -> MetricSpec:
    """What ``metric`` is, with or without a label. Raises KeyError."""
    return CATALOGUE[base_of(metric)]


def lower_is_better(metric: str) -> bool:
    """True when less of ``metric`` is better, as of a KPI of errors; false for what is no KPI."""
    spec = CATALOGUE.get(base_of(metric))
    return spec is not None and spec.less


def margin_in(margin: float | Mapping[str, float], metric: str, stated_in: str) -> float:
    """The margin of ``metric``: what a mapping says of it (with its label, or of all labels), a number that is stated in the same unit, and
    the default of the metric otherwise. A number is stated in the unit of the metric ``stated_in``."""
    spec = spec_of_metric(metric)
    if isinstance(margin, Mapping):
        return margin.get(metric, margin.get(spec.name, spec.margin))
    return margin if spec.unit == spec_of_metric(stated_in).unit else spec.margin


def item_metrics(specs: Iterable[MetricSpec], items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Those means that some items have; what has no upper end, where all of several items have it."""
    for each in specs:
        assert each.interval is not None
        scored = [(value, item.group) for item in items if (value := each.of_item(item)) is not None]
        if scored and (each.interval is not average or len(scored) == len(items) > 1):
            yield each.interval(each.name, [value for value, _ in scored], [group for _, group in scored], spec)


def classification_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics that are defined on these items."""
    accuracy, *others = _MEANS[AnswerKinds.LABEL]
    yield from item_metrics([accuracy], items, spec)
    groups, worth = [item.group for item in items], worth_of_labels(items, lambda item: ((item.target, item.correct),))
    for name, mean in (("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)):
        metric = bootstrapped(name, over_labels(items, mean), groups, spec)
        yield no_narrower(metric, metric.value, worth)
    marks = _marks(items, spec.labels, many=False)
    for place, label in enumerate(spec.labels):
        yield from _label_metrics(label, place, marks, items, spec)
    yield from item_metrics(others, items, spec)
    yield from ece_metrics(items, spec)


def multi_label_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics that are defined on these items."""

    def hits(item: ItemResult) -> Iterator[tuple[str, bool]]:
        given = frozenset(split(item.prediction))
        return ((label, label in given) for label in split(item.target))

    yield from item_metrics([CATALOGUE["exact_match"]], items, spec)
    marks, groups = _marks(items, spec.labels, many=True), [item.group for item in items]
    micro, macro = (bootstrapped(name, _over(marks, mean), groups, spec) for name, mean in (("micro_f1", micro_f1), ("macro_f1", macro_f1)))
    distinct = float(len(set(groups)))
    # Micro-F1 is a share of many labels: its interval is Wilson's only where no draw differs.
    yield micro if micro.low < micro.high else no_narrower(micro, micro.value, Worth(distinct, distinct))
    yield no_narrower(macro, macro.value, worth_of_labels(items, hits))
    for place, label in enumerate(spec.labels):
        yield from _label_metrics(label, place, marks, items, spec)
        one = _Marks(marks.borne_NK[:, [place]], marks.given_NK[:, [place]])
        if (one.borne_NK | one.given_NK).any():
            yield _f1_of_label(label, one, items, spec)
    yield from item_metrics([CATALOGUE["log_loss"]], items, spec)


def _label_metrics(label: str, place: int, marks: _Marks, items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Precision rests on the items that were given the label, recall on those that bear it."""
    borne_N, given_N = marks.borne_NK[:, place], marks.given_NK[:, place]
    for name, among_N, hit_N in (("precision", given_N, borne_N), ("recall", borne_N, given_N)):
        if among_N.any():
            groups = [items[n].group for n in np.flatnonzero(among_N).tolist()]
            yield proportion(f"{name}[{label}]", hit_N[among_N].tolist(), groups, spec)


def _f1_of_label(label: str, one: _Marks, items: Sequence[ItemResult], spec: MeasureSpec) -> Metric:
    """F1 is 2 J / (1 + J) of the share J of hits among the items that bear the label or were given it (Jaccard's), and is known no better
    than that share: the other items, however many, say nothing of it."""
    among: list[int] = np.flatnonzero(one.borne_NK[:, 0] | one.given_NK[:, 0]).tolist()
    hits = (one.borne_NK & one.given_NK)[among, 0].tolist()
    metric = bootstrapped(f"f1[{label}]", _over(one, micro_f1), [item.group for item in items], spec)
    groups = [items[n].group for n in among]
    # Were all right, nobody else would have been given the label.
    borne = [items[n].group for n in among if one.borne_NK[n, 0]] or groups
    worth = Worth(items_worth(hits, groups), items_worth([True] * len(borne), borne))
    return no_narrower(metric, sum(hits) / len(among), worth, lambda share: 2 * share / (1 + share))


def is_same_answer(answer: str, reference: str, form: AnswerFormat | None = None) -> bool:
    """The same words, after ``normalise_answer``; where one of both calls functions, the same calls, and where ``form`` asks for JSON
    objects, the same object: how JSON is spaced, and in which order its keys stand, does not count."""
    made, due = answer_turn(answer).tool_calls, answer_turn(reference).tool_calls
    if made or due:
        return same_calls(made, due)
    same = same_objects(answer, reference) if form is not None and form.json_keys is not None else None
    return normalise_answer(answer) == normalise_answer(reference) if same is None else same


def corpus_metric_of(metric: str, items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    """``metric`` of ``items``. Raises KeyError for a metric that is none of all items together."""
    whole = spec_of_metric(metric).whole
    if whole is None:
        raise KeyError(metric)
    return whole(items, reading, label_of(metric) or "")


def measure(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[dict[str, Metric], tuple[ItemResult, ...]]:
    """Metrics by name, and item results sorted by item id, so that the order of rows changes nothing.

    Raises InvalidInput when predictions are not exactly one per row, or when there are no rows.
    """
    items = item_results(rows, predictions, spec)
    return metrics_of(items, spec), items


def metrics_of(items: Sequence[ItemResult], spec: MeasureSpec) -> dict[str, Metric]:
    """All metrics of item results, by name."""
    families = (_quality(items, spec), abstention_metrics(items, spec), serving_metrics(items, spec))
    return {metric.name: metric for metric in chain(*families)}


def _quality(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    kind = _kind_of(spec.task, many=spec.many)
    if kind is AnswerKinds.LABEL:
        return classification_metrics(items, spec)
    return multi_label_metrics(items, spec) if kind is AnswerKinds.LABELS else item_metrics(_MEANS[kind], items, spec)


def named_metrics(items: Sequence[ItemResult], spec: MeasureSpec, names: Collection[str]) -> dict[str, Metric]:
    """Named metrics of ``metrics_of``, without computing the others."""
    found: dict[str, Metric] = {}
    for metric in chain(abstention_metrics(items, spec), _quality(items, spec)):
        if metric.name in names:
            found[metric.name] = metric
        if len(found) == len(set(names)):
            break
    return found


def item_results(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[ItemResult, ...]:
    """One result a row, sorted by item id. Raises as ``measure``."""
    by_item = {prediction.item: prediction for prediction in predictions}
    by_row = {row.id: row for row in rows}
    if not rows or by_item.keys() != by_row.keys() or not len(rows) == len(predictions) == len(by_row):
        raise InvalidInput(
            f"{len(predictions)} predictions do not belong one to one to {len(rows)} rows",
            "predict every row exactly once, and at least one",
        )
    return tuple(_item(by_row[item], by_item[item], spec) for item in sorted(by_row))


def _item(row: Row, prediction: Prediction, spec: MeasureSpec) -> ItemResult:
    chances, answered_row = prediction.log_probabilities, AnsweredRow(row, prediction, spec)
    scored = _MEANS[_kind_of(spec.task, many=spec.many)]
    if spec.task is TaskKind.CLASSIFY:
        correct = prediction.answer == row.answer
    elif spec.task is TaskKind.RANK:  # a relevant document in the first place
        correct = bool(prediction.ranking) and answered_row.relevance.get(prediction.ranking[0], 0) > 0
    else:
        correct = is_same_answer(prediction.answer, row.answer, spec.form)
    return ItemResult(
        item=row.id,
        group=row.group,
        target=row.answer,
        prediction=prediction.answer,
        correct=correct,
        log_loss=-chances[row.answer] if chances and row.answer in chances else None,
        confidence=min(1.0, math.exp(chances[prediction.answer])) if chances and prediction.answer in chances else None,
        latency_ms=prediction.latency_ms,
        request_ms=prediction.request_ms,
        prompt_tokens=prediction.prompt_tokens,
        completion_tokens=prediction.completion_tokens,
        scores={each.name: value for each in scored if each.score and (value := each.score(answered_row)) is not None},
    )


#: An answer is given to nearly everything where all others together are this many times rarer than among the targets.
_RARER = 5

#: Labels that are named; more are counted.
_NAMED = 5

#: So many items, all right, are too good not to be looked at.
_PERFECT = 30


def degenerate_answer_remarks(items: Sequence[ItemResult], spec: MeasureSpec) -> tuple[str, ...]:
    """Remarks on the answers as a whole: (nearly) all are the same, some name no label, labels that occur are never
    given, or all are right."""
    told = [_one_for_all(items, spec)]
    if len(items) >= _PERFECT and all(item.correct for item in items):
        told.append(
            f"is right about all {len(items):,} items, which may be a leak: look whether a column of the text gives the answer away, and "
            "whether rows of train say the same in other words"
        )
    if spec.task is TaskKind.CLASSIFY:
        # Somebody else's model wrote what names no label, or several.
        if unnamed := sum(not item.prediction for item in items):
            told.append(f"writes {unnamed:,} of {len(items):,} answers in which no label can be read, or more than one")
        told.append(_never_given(items, spec))
    return tuple(sentence for sentence in told if sentence)


def _one_for_all(items: Sequence[ItemResult], spec: MeasureSpec) -> str:
    answer, count = Counter(item.prediction for item in items).most_common(1)[0]
    if spec.task is TaskKind.CLASSIFY and not answer:
        return ""
    # How many items one answer could be right for at most.
    targets = (name for item in items for name in (relevance_of(item.target) if spec.task is TaskKind.RANK else (item.target,)))
    others, wanted = len(items) - count, len(items) - max(Counter(targets).values(), default=0)
    if not wanted or others * _RARER > wanted:
        return ""
    of = f"all {len(items):,}" if not others else f"{count:,} of {len(items):,}"
    right = sum(item.correct for item in items if item.prediction == answer)
    what = "gives no label to" if spec.many and answer == NONE else f"answers {answer!r} to"
    if spec.task is TaskKind.GENERATE:
        what = "writes the same text for"
    elif spec.task is TaskKind.RANK:
        what = "puts the same document first for" if answer else "finds no document for"
    return f"{what} {of} items, which is right for {right:,}"


def _never_given(items: Sequence[ItemResult], spec: MeasureSpec) -> str:
    """Labels that items bear and no item is given, the most frequent first."""
    reading = MetricReading(spec.many)
    borne = Counter(label for item in items for label in labels_in(item.target, reading))
    given = {label for item in items for label in labels_in(item.prediction, reading)}
    missing = [(label, count) for label, count in sorted(borne.items(), key=lambda each: (-each[1], each[0])) if label not in given]
    if not missing:
        return ""
    named = ", ".join(f"{label!r} ({count:,} {'item' if count == 1 else 'items'})" for label, count in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"never gives {len(missing)} of the {len(borne)} labels that occur: {named}{more}"
