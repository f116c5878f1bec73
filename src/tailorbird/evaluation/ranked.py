"""What a loaded servable answers to questions: documents in order.

In: an engine, a servable of ``kind: rank``, rows. Out: one prediction per row, in the rows' order. Must not know: which documents are
relevant, how they are found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.evidence import Prediction
from tailorbird.evaluation.prediction import PredictionRequest

#: Documents of an answer that are looked at.
MOST = 100


def ranked_predictions(request: PredictionRequest) -> list[Prediction]:
    """Ranks every row's documents, of those that anybody may read. The first rows are asked
    ``concurrency`` at a time, and carry ``request_ms``: none has its answer before all have theirs."""
    predictions: list[Prediction] = []
    served, batched = request.rows[: request.timed], request.rows[request.timed :]
    for rows, size, timed in ((served, request.concurrency, True), (batched, request.chunk, False)):
        for start in range(0, len(rows), size):
            predictions += _ranked(request, rows[start : start + size], timed)
            request.progress(len(predictions), len(request.rows))
    return predictions


def _ranked(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    started = time.perf_counter()
    found = request.engine.retrieve(request.servable.id, [row.text for row in rows], frozenset({EVERYONE}), MOST)
    elapsed = (time.perf_counter() - started) * 1000
    rankings = [tuple(one.entry.id for one in each) for each in found]
    return [
        Prediction(
            item=row.id,
            answer=ranking[0] if ranking else "",
            ranking=ranking,
            latency_ms=elapsed / len(rows),
            request_ms=elapsed if timed else None,
        )
        for row, ranking in zip(rows, rankings, strict=True)
    ]
