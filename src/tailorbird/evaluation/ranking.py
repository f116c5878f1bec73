"""Ranking metrics: nDCG, reciprocal rank, recall.

Relevance maps a document to its grade; what is not in it, or has grade 0, is irrelevant. A query without a relevant document has no score:
it is left out of the means (``None`` here), as trec_eval does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.measure_spec import MeasureSpec, share_like

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
