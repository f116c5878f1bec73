"""The floor: learns, is deterministic, gives probabilities over all labels, and refuses what it cannot learn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import and_
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import FunctionTransformer

from support.doubles.engine import MemoryEncoder
from support.rungs import LABELS, make_rows
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import DataInvalid
from tailorbird.ports.encoder import Vectors
from tailorbird.rungs import FloorModel, fit_floor
from tailorbird.text.label_rules import join, split


def test_it_learns_and_predicts_every_row_in_order() -> None:
    rows = make_rows(240)
    model = fit_floor(rows[:150], LABELS, seed=1)
    found = model.predict(rows[150:])
    assert [p.item for p in found] == [row.id for row in rows[150:]]
    assert all(p.answer == row.target for p, row in zip(found, rows[150:], strict=True))
    assert model.variant == "tf-idf + logistic regression"
    assert model.parameters == model.linear.weights_KF.size + len(LABELS)
    assert [p.request_ms is not None for p in found] == [True] * 80 + [False] * 10
    together = model.predict(rows[150:], concurrency=32)
    assert [p.answer for p in together] == [p.answer for p in found]
    assert [p.request_ms is not None for p in together] == [True] * 80 + [False] * 10
    assert len({p.request_ms for p in together[:80]}) == 3, "those who are asked at a time wait for one another"


def test_equal_rows_in_any_order_fit_an_equal_model() -> None:
    rows = make_rows(90)
    one, other = fit_floor(rows, LABELS, seed=1), fit_floor(rows[::-1], LABELS, seed=1)
    asked = make_rows(100)[90:]
    assert [p.log_probabilities for p in one.predict(asked)] == [p.log_probabilities for p in other.predict(asked)]


def test_what_it_cannot_learn_is_refused() -> None:
    rows = make_rows(30)
    for train, labels in (([r for r in rows if r.target == "refund"], LABELS), (rows, LABELS[:2]), ([], LABELS)):
        with pytest.raises(DataInvalid) as caught:
            fit_floor(train, labels, seed=1)
        assert caught.value.error_code == "labels_differ"


WORDS_OF_NO_MEANING = tuple(f"word{place}" for place in range(40))


def hinted(count: int, seed: int) -> list[Row]:
    """Rows of which one in five hints at a label that every second of them then bears: no probability lies much above a half."""
    drawn, plain = random.Random(seed), make_rows(count)
    rows = []
    for number, row in enumerate(plain):
        hints = drawn.random() < 0.2
        text = f"{' '.join(drawn.sample(WORDS_OF_NO_MEANING, 6))} {'perhaps' if hints else 'hello'} {number}"
        rows.append(row.model_copy(update={"text": text, "target": join(["refund"] if hints and drawn.random() < 0.4 else [])}))
    return rows


def test_a_label_is_given_from_a_probability_chosen_on_rows_left_out() -> None:
    learned, asked = hinted(400, 1), hinted(300, 2)
    model = fit_floor(learned, LABELS, seed=1, many=True)
    assert 0 < model.thresholds[0] < 0.5
    assert model.thresholds == (model.thresholds[0],) * len(LABELS)
    assert model.thresholds == fit_floor(learned[::-1], LABELS, seed=1, many=True).thresholds

    def f1(found: FloorModel) -> float:
        answers = [bool(split(prediction.answer)) for prediction in found.predict(asked)]
        borne = [bool(split(row.target)) for row in asked]
        return 2 * sum(map(and_, answers, borne)) / (sum(answers) + sum(borne))

    assert f1(model) > f1(replace(model, thresholds=())) + 0.05
    exact = fit_floor(learned, LABELS, seed=1, many=True, goal="exact_match")
    assert not exact.thresholds or exact.thresholds[0] > model.thresholds[0], "an exact match forgives no label too many"


@pytest.mark.parametrize("embed", [None, MemoryEncoder().embed])
@pytest.mark.parametrize(
    "labels",
    [
        ("invoice", "refund"),
        LABELS,
    ],
)
def test_what_is_stored_answers_as_what_was_fitted(labels: tuple[str, ...], embed: Callable[..., Vectors] | None) -> None:
    """Against the library's own pipeline, fitted anew."""
    rows = [row for row in make_rows(90) if row.target in labels]
    vectors = partial(embed, Path()) if embed else None
    model = fit_floor(rows[:60], labels, seed=1, embed=vectors)
    train = sorted(rows[:60], key=lambda row: row.id)
    union = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
            *([("vectors", FunctionTransformer(lambda texts: 3 * vectors(texts)))] if vectors else []),
        ]
    )
    fitted = LogisticRegression(C=30.0, max_iter=1_000, random_state=1).fit(
        union.fit_transform([row.text for row in train]), [row.target for row in train]
    )
    asked = [row.text for row in rows[60:]] + ["", "words that nobody wrote"]
    expected = fitted.predict_log_proba(union.transform(asked))[:, [list(fitted.classes_).index(label) for label in labels]]
    found = model.linear.log_probabilities(asked, vectors(asked) if vectors else None)
    np.testing.assert_allclose(found, expected, atol=1e-6 if vectors else 1e-9)
    assert model.variant == ("tf-idf + vectors + logistic regression" if embed else "tf-idf + logistic regression")
