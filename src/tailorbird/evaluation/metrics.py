"""Metrics of predictions against targets, with intervals; and corpus metrics as functions of item weights for the bootstrap."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import DataInvalid, InvalidInput
from tailorbird.domain.evidence import ItemResult, Metric, Prediction
from tailorbird.domain.objective import AnswerFormat, TaskKind
from tailorbird.evaluation.calibration import LEAST_ITEMS, abstention_metrics, answered, calibration_metrics, ece_over
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
from tailorbird.stats.metric_direction import base_of, label_of
from tailorbird.text.conversations import answer_turn, holds_tools, shown_answer
from tailorbird.text.json_answers import field_score, json_object, same_objects
from tailorbird.text.label_rules import NONE, split
from tailorbird.text.normalisation import normalise, normalise_answer
from tailorbird.text.regex import matches, occurs
from tailorbird.text.text_metrics import chrf, rouge_l, token_f1, word_precision
from tailorbird.text.tool_calls import same_calls


def ordinal_scores(answer: str, target: str, order: Sequence[str]) -> dict[str, float]:
    """Scores of one item, none where there is no order. ``ordinal_score`` is 1 for the right level and 0 for one at the other end of
    ``order``, in steps of one level: 1 - |a - t| / (K - 1), whose mean is 1 less the mean absolute error over its range. An answer that is
    no level is as wrong as can be.
    """
    if len(order) < 2:
        return {}
    level = {name: place for place, name in enumerate(order)}
    if answer not in level or target not in level:
        return {"ordinal_score": 0.0, "within_one": 0.0}
    off = abs(level[answer] - level[target])
    return {"ordinal_score": 1 - off / (len(order) - 1), "within_one": float(off <= 1)}


def ordinal_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Both metrics, where the labels have an order and every item was scored by it."""
    if not spec.order or not all("ordinal_score" in item.scores for item in items):
        return
    yield share_like("ordinal_score", [item.scores["ordinal_score"] for item in items], [item.group for item in items], spec)
    yield proportion("within_one", items, [item.scores["within_one"] > 0 for item in items], spec)


def classification_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics that are defined on these items."""
    yield proportion("accuracy", items, [item.correct for item in items], spec)
    yield from _over_classes(items, spec)
    for label in spec.labels:
        yield from _single_label_metrics(label, items, spec)
    losses = [item.log_loss for item in items if item.log_loss is not None]
    if len(losses) == len(items) > 1:
        yield average("log_loss", losses, [item.group for item in items], spec)
    yield from calibration_metrics(items, spec)
    yield from ordinal_metrics(items, spec)


def _single_label_metrics(label: str, items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Precision rests on the items that were given the label, recall on those that bear it."""
    given = [item for item in items if item.prediction == label]
    bearing = [item for item in items if item.target == label]
    for name, among in (("precision", given), ("recall", bearing)):
        if among:
            yield proportion(f"{name}[{label}]", among, [item.correct for item in among], spec)


def _over_classes(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    groups, worth = [item.group for item in items], worth_of_labels(items, lambda item: ((item.target, item.correct),))
    for name, mean in (("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)):
        metric = bootstrapped(name, over_labels(items, mean), groups, spec)
        yield no_narrower(metric, metric.value, worth)


def over_labels(items: Sequence[ItemResult], mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` of the labels that items bear and were given, as a function of item weights."""
    names = sorted({item.target for item in items} | {item.prediction for item in items})
    place = {name: i for i, name in enumerate(names)}
    borne_N, given_N = (np.array([place[name] for name in side], dtype=np.intp) for side in zip(*_named(items), strict=True))
    right_N, by_borne, by_given = (borne_N == given_N).astype(float), sums_by(borne_N, len(names)), sums_by(given_N, len(names))
    return lambda weights_BN: mean(LabelSums(by_borne(weights_BN), by_given(weights_BN), by_borne(weights_BN * right_N)))


def _named(items: Sequence[ItemResult]) -> Iterator[tuple[str, str]]:
    return ((item.target, item.prediction) for item in items)


@dataclass(frozen=True)
class _Marks:
    """Which items bear which labels, and which were given them: (items, labels)."""

    borne_NK: NDArray[np.bool_]
    given_NK: NDArray[np.bool_]


def multi_label_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics that are defined on these items."""
    yield proportion("exact_match", items, [item.correct for item in items], spec)
    marks, groups = _marks(items, spec.labels), [item.group for item in items]
    micro, macro = (bootstrapped(name, _over(marks, mean), groups, spec) for name, mean in (("micro_f1", micro_f1), ("macro_f1", macro_f1)))
    distinct = float(len(set(groups)))
    # Micro-F1 is a share of many labels: its interval is Wilson's only where no draw differs.
    yield micro if micro.low < micro.high else no_narrower(micro, micro.value, Worth(distinct, distinct))
    yield no_narrower(macro, macro.value, worth_of_labels(items, _hits))
    for place, label in enumerate(spec.labels):
        yield from _multi_label_metrics(label, place, marks, items, spec)
    losses = [item.log_loss for item in items if item.log_loss is not None]
    if len(losses) == len(items) > 1:
        yield average("log_loss", losses, groups, spec)


def _hits(item: ItemResult) -> Iterator[tuple[str, bool]]:
    given = frozenset(split(item.prediction))
    return ((label, label in given) for label in split(item.target))


def over_sets(items: Sequence[ItemResult], mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` of items as a function of their weights, over the labels that they bear or were given."""
    labels = sorted({label for item in items for text in (item.target, item.prediction) for label in split(text)})
    return _over(_marks(items, labels), mean)


def _marks(items: Sequence[ItemResult], labels: Sequence[str]) -> _Marks:
    place = {label: k for k, label in enumerate(labels)}
    borne, given = (np.zeros((len(items), len(labels)), dtype=bool) for _ in range(2))
    for n, item in enumerate(items):
        for marked, text in ((borne, item.target), (given, item.prediction)):
            marked[n, [place[label] for label in split(text) if label in place]] = True
    return _Marks(borne, given)


def _over(marks: _Marks, mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` as a function of item weights."""
    hits_NK = (marks.borne_NK & marks.given_NK).astype(float)
    given_NK, borne_NK = marks.given_NK.astype(float), marks.borne_NK.astype(float)
    return lambda weights_BN: mean(LabelSums(weights_BN @ borne_NK, weights_BN @ given_NK, weights_BN @ hits_NK))


def _multi_label_metrics(label: str, place: int, marks: _Marks, items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Precision rests on the items that were given the label, recall on those that bear it, F1 on all."""
    borne_N, given_N = marks.borne_NK[:, place], marks.given_NK[:, place]
    for name, among_N, hit_N in (("precision", given_N, borne_N), ("recall", borne_N, given_N)):
        among: list[int] = np.flatnonzero(among_N).tolist()
        if among:
            yield proportion(f"{name}[{label}]", [items[n] for n in among], [bool(hit_N[n]) for n in among], spec)
    if (borne_N | given_N).any():
        yield _f1_of_label(label, _Marks(borne_N[:, None], given_N[:, None]), items, spec)


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


#: The metrics of a ranking, in the order in which they are told.
RANKING_METRICS = ("ndcg@10", "mrr@10", "recall@10", "recall@100")

Relevance = Mapping[str, float]


def ndcg(ranked: Sequence[str], relevance: Relevance, k: int) -> float | None:
    """Normalised discounted cumulative gain of the first ``k`` documents, with the grade as gain (Järvelin & Kekäläinen 2002, as in
    trec_eval)."""
    ideal = _dcg(sorted((grade for grade in relevance.values() if grade > 0), reverse=True)[:k])
    return _dcg([max(0.0, relevance.get(document, 0.0)) for document in ranked[:k]]) / ideal if ideal else None


def reciprocal_rank(ranked: Sequence[str], relevance: Relevance, k: int) -> float | None:
    """One over the rank of the first relevant document among the first ``k``; 0 where there is none."""
    if not _relevant(relevance):
        return None
    return next((1 / rank for rank, document in enumerate(ranked[:k], 1) if relevance.get(document, 0) > 0), 0.0)


def recall(ranked: Sequence[str], relevance: Relevance, k: int) -> float | None:
    """The share of the relevant documents that stand among the first ``k``."""
    relevant = _relevant(relevance)
    return len(relevant & set(ranked[:k])) / len(relevant) if relevant else None


def ranking_scores(ranked: Sequence[str], relevance: Relevance) -> dict[str, float]:
    """One item's scores by name; empty where nothing is relevant."""
    found = {
        "ndcg@10": ndcg(ranked, relevance, 10),
        "mrr@10": reciprocal_rank(ranked, relevance, 10),
        "recall@10": recall(ranked, relevance, 10),
        "recall@100": recall(ranked, relevance, 100),
    }
    return {name: value for name, value in found.items() if value is not None}


def relevance_of(target: str) -> Relevance:
    """Reads a row's target: a JSON object of document ids to grades. Raises DataInvalid."""
    try:
        found = json.loads(target)
        return {str(document): float(grade) for document, grade in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise DataInvalid(
            "a row's relevance is not an object of document ids to grades", 'write it as {"doc-7": 2, "doc-9": 1}', code="relevance_broken"
        ) from None


def ranking_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """The means of all scores over the items that have them."""
    for name in RANKING_METRICS:
        scored = [item for item in items if name in item.scores]
        if scored:
            yield share_like(name, [item.scores[name] for item in scored], [item.group for item in scored], spec)


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _relevant(relevance: Relevance) -> set[str]:
    return {document for document, grade in relevance.items() if grade > 0}


#: Scores of an item that are shares of something, in the order in which they are told.
_MEANS = ("token_f1", "rouge_l", "chrf", "field_score", "groundedness")
#: Scores of an item that are yes or no.
_SHARES = ("format_valid", "refusal_rate", "coverage", "referral_recall", "referral_precision", "tool_call_accuracy")

#: How assistants open an answer in which they decline. Matched at its beginning alone: who quotes such words later has not declined.
_REFUSAL = re.compile(
    r"^\W*("
    r"(i['’]?m (very |so |really )?)?sorry|i apologi[sz]e|unfortunately,? i|i must decline"
    r"|i (really )?(cannot|can['’]t|can not|won['’]t|will not|am unable|am not able|do not have|don['’]t have)"
    r"|i['’]m (unable|not able)|as an? (ai|artificial|language)|no,? i (cannot|can['’]t|won['’]t)"
    r"|this (request|question) (cannot|can['’]t)|it is not (possible|appropriate) for me|it would not be appropriate)"
)


def generation_scores(answer: str, reference: str, spec: MeasureSpec, passages: Sequence[str]) -> dict[str, float]:
    """One item's scores by name. ``format_valid`` only where a form is asked for, ``field_score`` only where that is JSON objects and the
    reference is one, ``groundedness`` only where passages were given,
    ``coverage`` only where answers may refer to people: ``referral_recall`` then of an item whose reference does, ``referral_precision`` of
    one whose answer does.

    Groundedness is the share of the answer's words that stand in the passages (K-precision, Adlakha 2023, arXiv 2307.16877).
    """
    answer, reference = shown_answer(answer), shown_answer(reference)
    scores = {
        "token_f1": token_f1(answer, reference),
        "rouge_l": rouge_l(answer, reference),
        "chrf": chrf(answer, reference),
        "refusal_rate": float(is_refusal(answer)),
    }
    if spec.form is not None:
        scores["format_valid"] = float(has_form(answer, spec.form))
        if spec.form.json_keys is not None and (said := field_score(answer, reference)) is not None:
            scores["field_score"] = said
    if spec.refer_pattern is not None:
        due, done = occurs(spec.refer_pattern, reference), occurs(spec.refer_pattern, answer)
        scores |= {"coverage": float(not done)}
        scores |= ({"referral_recall": float(done)} if due else {}) | ({"referral_precision": float(due)} if done else {})
    if passages:
        scores["groundedness"] = word_precision(answer, " ".join(passages))
    return scores


def tool_call_scores(answer: str, reference: str, text: str) -> dict[str, float]:
    """``tool_call_accuracy`` of an item whose conversation offers functions: the calls of the answer are those of the reference, in name
    and arguments (what BFCL scores as AST accuracy); where the reference calls nothing, neither does the answer (BFCL's irrelevance)."""
    due, made = answer_turn(reference).tool_calls, answer_turn(answer).tool_calls
    return {"tool_call_accuracy": float(same_calls(made, due))} if due or holds_tools(text) else {}


def is_same_answer(answer: str, reference: str, form: AnswerFormat | None = None) -> bool:
    """The same words, after ``normalise_answer``; where one of both calls functions, the same calls, and where ``form`` asks for JSON
    objects, the same object: how JSON is spaced, and in which order its keys stand, does not count."""
    made, due = answer_turn(answer).tool_calls, answer_turn(reference).tool_calls
    if made or due:
        return same_calls(made, due)
    same = same_objects(answer, reference) if form is not None and form.json_keys is not None else None
    return normalise_answer(answer) == normalise_answer(reference) if same is None else same


def generation_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics of generated answers. ``exact_match`` compares after ``normalise_answer`` (case, white space and Unicode forms do not
    count), calls of functions as ``tool_call_accuracy``, and JSON objects by what they say where the objective asks for such."""
    yield proportion("exact_match", items, [item.correct for item in items], spec)
    for name in _MEANS:
        scored = [item for item in items if name in item.scores]
        if scored:
            yield share_like(name, [item.scores[name] for item in scored], [item.group for item in scored], spec)
    for name in _SHARES:
        scored = [item for item in items if name in item.scores]
        if scored:
            yield proportion(name, scored, [item.scores[name] > 0 for item in scored], spec)


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


def corpus_metric_of(metric: str, items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    """``metric`` of ``items``. Raises KeyError for a metric that is none of all items together."""
    label = label_of(metric)
    if label is not None:
        return _of_label(base_of(metric), label, items, reading)
    return _MAKERS[metric](items, reading)


def labels_in(text: str, reading: MetricReading) -> tuple[str, ...]:
    """The labels of a target or of an answer."""
    return split(text) if reading.many else (text,)


def _groups(items: Sequence[ItemResult]) -> int:
    return len({item.group for item in items})


def _over_labels(items: Sequence[ItemResult], reading: MetricReading) -> float:
    """What a mean over labels is worth where two candidates never differ: near-copies of a row differ as one, if at all."""
    return worth_of_labels(items, lambda item: ((label, True) for label in labels_in(item.target, reading))).alike


def _macro_f1(items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    value = over_sets(items, macro_f1) if reading.many else over_labels(items, macro_f1)
    return CorpusMetric(value, _over_labels(items, reading))


def _balanced(items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    return CorpusMetric(over_labels(items, balanced_accuracy), _over_labels(items, reading))


def _micro_f1(items: Sequence[ItemResult], _: MetricReading) -> CorpusMetric:
    return CorpusMetric(over_sets(items, micro_f1), float(_groups(items)))


def _ece(items: Sequence[ItemResult], _: MetricReading) -> CorpusMetric:
    unsure = sum(item.confidence is None for item in items)
    if unsure:
        return _undefined(f"{unsure:,} of {len(items):,} items have no probability")
    if len(items) < LEAST_ITEMS:
        return _undefined(f"it takes {LEAST_ITEMS} items, and there are {len(items)}")
    return CorpusMetric(ece_over(items), float(_groups(items)))


def _selective_risk(items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    if reading.refer_below is None:
        return _undefined("no threshold was calibrated below which answers are referred")
    given = answered(items, reading.refer_below)
    if not given:
        return _undefined("no item is answered: all are referred")
    kept = {item.item for item in given}
    wrong = [item.item in kept and not item.correct for item in items]
    return CorpusMetric(_ratio(wrong, [item.item in kept for item in items]), float(_groups(given)))


def _referral_precision(items: Sequence[ItemResult], _: MetricReading) -> CorpusMetric:
    referred = [item for item in items if "referral_precision" in item.scores]
    if not referred:
        return _undefined("no answer refers to a person")
    hits = [item.scores.get("referral_precision", 0.0) > 0 for item in items]
    return CorpusMetric(_ratio(hits, ["referral_precision" in item.scores for item in items]), float(_groups(referred)))


_MAKERS: dict[str, Callable[[Sequence[ItemResult], MetricReading], CorpusMetric]] = {
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced,
    "micro_f1": _micro_f1,
    "ece": _ece,
    "selective_risk": _selective_risk,
    "referral_precision": _referral_precision,
}


def _of_label(base: str, label: str, items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    """Precision rests on the items that were given the label, F1 on those and on the ones that bear it."""
    borne = np.array([label in labels_in(item.target, reading) for item in items])
    given = np.array([label in labels_in(item.prediction, reading) for item in items])
    hits = borne & given
    among = given if base == "precision" else given | borne
    if not among.any():
        return _undefined("no item was given the label" if base == "precision" else "no item bears the label or was given it")
    size = float(_groups([item for item, counts in zip(items, among, strict=True) if counts]))
    if base == "precision":
        return CorpusMetric(_ratio(hits, given), size)
    twice, both = 2.0 * hits, borne.astype(float) + given.astype(float)
    return CorpusMetric(_ratio(twice, both), size)


def _ratio(hits: Sequence[bool] | Floats, among: Sequence[bool] | Floats) -> Statistic:
    hits_N, among_N = np.array(hits, dtype=float), np.array(among, dtype=float)
    return lambda weights_BN: shares((weights_BN * hits_N).sum(axis=1), (weights_BN * among_N).sum(axis=1))


def _undefined(reason: str) -> CorpusMetric:
    return CorpusMetric(lambda weights_BN: np.full(len(weights_BN), np.nan), 1.0, reason)


#: What makes metrics out of items, by the kind of task.
Family = Callable[[Sequence[ItemResult], MeasureSpec], Iterator[Metric]]

FAMILIES: dict[TaskKind, Family] = {
    TaskKind.CLASSIFY: classification_metrics,
    TaskKind.GENERATE: generation_metrics,
    TaskKind.RANK: ranking_metrics,
}


def measure(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[dict[str, Metric], tuple[ItemResult, ...]]:
    """Metrics by name, and item results sorted by item id, so that the order of rows changes nothing.

    Raises InvalidInput when predictions are not exactly one per row, or when there are no rows.
    """
    items = item_results(rows, predictions, spec)
    return metrics_of(items, spec), items


def metrics_of(items: Sequence[ItemResult], spec: MeasureSpec) -> dict[str, Metric]:
    """All metrics of item results, by name."""
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    return {metric.name: metric for family in (quality, abstention_metrics, serving_metrics) for metric in family(items, spec)}


def named_metrics(items: Sequence[ItemResult], spec: MeasureSpec, names: Collection[str]) -> dict[str, Metric]:
    """Named metrics of ``metrics_of``, without computing the others."""
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    found: dict[str, Metric] = {}
    for metric in chain(abstention_metrics(items, spec), quality(items, spec)):
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
            code="items_differ",
        )
    return tuple(_item(by_row[item], by_item[item], spec) for item in sorted(by_row))


def _item(row: Row, prediction: Prediction, spec: MeasureSpec) -> ItemResult:
    scores = prediction.log_probabilities
    return ItemResult(
        item=row.id,
        group=row.group,
        target=row.answer,
        prediction=prediction.answer,
        correct=_is_correct(row, prediction, spec),
        log_loss=-scores[row.answer] if scores and row.answer in scores else None,
        confidence=min(1.0, math.exp(scores[prediction.answer])) if scores and prediction.answer in scores else None,
        latency_ms=prediction.latency_ms,
        request_ms=prediction.request_ms,
        prompt_tokens=prediction.prompt_tokens,
        completion_tokens=prediction.completion_tokens,
        scores=_scores(row, prediction, spec),
    )


def _is_correct(row: Row, prediction: Prediction, spec: MeasureSpec) -> bool:
    """The right label; the reference's text, after ``normalise``, its calls, or its JSON; a relevant document in the first place."""
    if spec.task is TaskKind.CLASSIFY:
        return prediction.answer == row.answer
    if spec.task is TaskKind.RANK:
        return bool(prediction.ranking) and relevance_of(row.answer).get(prediction.ranking[0], 0) > 0
    return is_same_answer(prediction.answer, row.answer, spec.form)


def _scores(row: Row, prediction: Prediction, spec: MeasureSpec) -> dict[str, float]:
    if spec.task is TaskKind.RANK:
        return ranking_scores(prediction.ranking, relevance_of(row.answer))
    if spec.task is TaskKind.GENERATE:
        scores = generation_scores(prediction.answer, row.answer, spec, prediction.passages)
        return scores | tool_call_scores(prediction.answer, row.answer, row.text)
    if spec.many:
        return {}
    told = prediction.log_probabilities
    return ordinal_scores(prediction.answer, row.answer, spec.order) | ({"brier": _brier(told, row.answer)} if told else {})


def _brier(log_probabilities: dict[str, float], target: str) -> float:
    """Brier's score of one item (Brier 1950), between 0 and 2: the squared distance of the probabilities from what came true."""
    said = {label: math.exp(nats) for label, nats in log_probabilities.items()}
    return sum((probability - (label == target)) ** 2 for label, probability in said.items()) + (target not in said)


#: An answer is given to nearly everything where all others together are this many times rarer than among the targets.
_RARER = 5
#: Labels that are named; more are counted.
_NAMED = 5
#: So many items, all right, are too good not to be looked at.
_PERFECT = 30


def degenerate_answer_remarks(items: Sequence[ItemResult], spec: MeasureSpec) -> tuple[str, ...]:
    """Remarks on the answers as a whole: (nearly) all are the same, some name no label, labels that occur are never
    given, or all are right."""
    told = [_one_for_all(items, spec), _all_right(items)]
    if spec.task is TaskKind.CLASSIFY:
        told += [_unnamed(items), _never_given(items, spec)]
    return tuple(sentence for sentence in told if sentence)


def _one_for_all(items: Sequence[ItemResult], spec: MeasureSpec) -> str:
    answer, count = Counter(item.prediction for item in items).most_common(1)[0]
    if spec.task is TaskKind.CLASSIFY and not answer:
        return ""
    others = len(items) - count
    wanted = len(items) - _most_wanted(items, spec)
    if not wanted or others * _RARER > wanted:
        return ""
    of = f"all {len(items):,}" if not others else f"{count:,} of {len(items):,}"
    right = sum(item.correct for item in items if item.prediction == answer)
    return f"{_what(answer, spec)} {of} items, which is right for {right:,}"


def _unnamed(items: Sequence[ItemResult]) -> str:
    """Answers that somebody else's model wrote, and in which no label can be read, or several can."""
    count = sum(not item.prediction for item in items)
    return f"writes {count:,} of {len(items):,} answers in which no label can be read, or more than one" if count else ""


def _all_right(items: Sequence[ItemResult]) -> str:
    if len(items) < _PERFECT or not all(item.correct for item in items):
        return ""
    return (
        f"is right about all {len(items):,} items, which may be a leak: look whether a column of the text gives the answer away, and "
        "whether rows of train say the same in other words"
    )


def _most_wanted(items: Sequence[ItemResult], spec: MeasureSpec) -> int:
    """How many items one answer could be right for at most."""
    if spec.task is TaskKind.RANK:
        return max(Counter(name for item in items for name in relevance_of(item.target)).values(), default=0)
    return Counter(item.target for item in items).most_common(1)[0][1]


def _what(answer: str, spec: MeasureSpec) -> str:
    if spec.task is TaskKind.GENERATE:
        return "writes the same text for"
    if spec.task is TaskKind.RANK:
        return "puts the same document first for" if answer else "finds no document for"
    return "gives no label to" if spec.many and answer == NONE else f"answers {answer!r} to"


def _never_given(items: Sequence[ItemResult], spec: MeasureSpec) -> str:
    """Labels that items bear and no item is given, the most frequent first."""
    parts = split if spec.many else _alone
    borne = Counter(label for item in items for label in parts(item.target))
    given = {label for item in items for label in parts(item.prediction)}
    missing = [(label, count) for label, count in sorted(borne.items(), key=lambda each: (-each[1], each[0])) if label not in given]
    if not missing:
        return ""
    named = ", ".join(f"{label!r} ({count:,} {'item' if count == 1 else 'items'})" for label, count in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"never gives {len(missing)} of the {len(borne)} labels that occur: {named}{more}"


def _alone(label: str) -> tuple[str, ...]:
    return (label,)
