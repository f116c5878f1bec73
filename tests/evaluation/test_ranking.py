"""Metrics of rankings against scikit-learn and by hand."""

from __future__ import annotations

from random import Random

import pytest
from sklearn.metrics import ndcg_score

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import measure, ndcg, recall, reciprocal_rank, relevance_of

SPEC = MeasureSpec(TaskKind.RANK, (), 0.9, 3, 0.1)


def test_ndcg_agrees_with_scikit_learn() -> None:
    random = Random(3)
    for _ in range(50):
        documents = [f"d{n}" for n in range(20)]
        grades = {document: float(random.choice((0, 0, 0, 1, 2, 3))) for document in documents} | {"d0": 1.0}
        ranked = random.sample(documents, 20)
        scores = [[-ranked.index(document) for document in documents]]
        expected = ndcg_score([[grades[document] for document in documents]], scores, k=10)
        assert ndcg(ranked, grades, 10) == pytest.approx(expected)


def test_by_hand() -> None:
    relevance = {"a": 1.0, "b": 2.0, "z": 0.0}
    assert reciprocal_rank(["z", "x", "a"], relevance, 10) == pytest.approx(1 / 3)
    assert reciprocal_rank(["z", "x", "a"], relevance, 2) == 0
    assert recall(["z", "x", "a"], relevance, 10) == 0.5
    assert ndcg(["b", "a"], relevance, 10) == 1
    assert ndcg([], relevance, 10) == 0


def test_a_query_with_nothing_relevant_is_left_out() -> None:
    place = Provenance(file="f", file_digest=digest_bytes(b"f"), line=1, origin="o", license="l", collected="c", consent="c")
    targets = ['{"a": 1}', '{"b": 2}', "{}"]
    rows = [
        Row(id=digest_bytes(bytes([n])), text="q", target=target, group=f"g{n}", split=Split.DEV, provenance=place)
        for n, target in enumerate(targets)
    ]
    found, items = measure(rows, [Prediction(item=row.id, answer="a", ranking=("a", "b")) for row in rows], SPEC)
    assert found["mrr@10"].n == 2
    assert found["mrr@10"].value == pytest.approx(0.75)
    assert sum(item.correct for item in items) == 1


@pytest.mark.parametrize("target", ["[]", '{"a": "high"}'])
def test_relevance_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(DataInvalid):
        relevance_of(target)
