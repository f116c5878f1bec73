"""The floor: learns, is deterministic, gives probabilities over all labels, and refuses what it cannot learn."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Sequence
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
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.ports.encoder import Vectors
from tailorbird.rungs import FloorModel, fit_floor
from tailorbird.rungs.floor import LENGTHS
from tailorbird.text.label_rules import join, split
from tailorbird.text.linear_classifier import read_linear, write_linear


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


def test_probabilities_cover_labels_that_train_never_showed() -> None:
    model = fit_floor([row for row in make_rows(60) if row.target != "invoice"], LABELS, seed=1)
    for prediction in model.predict(make_rows(6)):
        assert prediction.log_probabilities is not None
        assert tuple(prediction.log_probabilities) == LABELS
        assert sum(math.exp(v) for v in prediction.log_probabilities.values()) == pytest.approx(1)
        assert prediction.log_probabilities["invoice"] < -15
        assert prediction.answer != "invoice"


def test_what_it_cannot_learn_is_refused() -> None:
    rows = make_rows(30)
    for train, labels in (([r for r in rows if r.target == "refund"], LABELS), (rows, LABELS[:2]), ([], LABELS)):
        with pytest.raises(DataInvalid) as caught:
            fit_floor(train, labels, seed=1)
        assert caught.value.error_code == "labels_differ"


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(Unavailable) as caught:
        fit_floor(make_rows(30), LABELS, seed=1)
    assert "tailorbird[local]" in caught.value.hint


def test_several_labels_are_each_judged_alone() -> None:
    texts = {"billing": "invoice amount charged", "refund": "money back please", "delivery": "parcel late courier"}
    names, plain = sorted(texts), make_rows(60)
    rows = []
    for number in range(60):
        borne = [name for place, name in enumerate(names) if number >> place & 1]
        text = f"case {number} " + " ".join(texts[name] for name in borne)
        rows.append(plain[number].model_copy(update={"text": text, "target": join(borne)}))
    model = fit_floor(rows[:40], names, seed=1, many=True)
    predictions = model.predict(rows[40:])
    right = sum(prediction.answer == row.target for prediction, row in zip(predictions, rows[40:], strict=True))
    assert right >= 18
    assert all(prediction.log_probabilities is None for prediction in predictions)
    assert model.linear.alone


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
@pytest.mark.parametrize("borne", [1, 5, 10])
def test_a_label_that_one_group_alone_bears_is_not_given_to_others(borne: int, embed: Callable[..., Vectors] | None) -> None:
    """Whatever is left out, it is told of by rows that do not teach it: that says nothing of how sure the whole is."""
    rows = []
    for number, row in enumerate(make_rows(400)):
        labels = ["invoice"] if number < borne else [row.target] if row.target == "refund" else []
        text = f"case {number} {'of the ledger' if number < borne else row.text}"
        rows.append(row.model_copy(update={"text": text, "target": join(labels), "group": f"group {number // 10}"}))
    model = fit_floor(rows, LABELS, seed=1, many=True, embed=partial(embed, Path()) if embed else None, goal="macro_f1")
    given = ["invoice" in split(prediction.answer) for prediction in model.predict(rows)]
    assert given == [number < borne for number in range(400)]


def test_a_label_that_no_row_bears_is_never_given_and_one_that_all_bear_always() -> None:
    rows = [row.model_copy(update={"target": join([row.target, "all"])}) for row in make_rows(60) if row.target != "invoice"]
    model = fit_floor(rows[:30], (*LABELS, "all"), seed=1, many=True)
    answers = [split(prediction.answer) for prediction in model.predict(rows[30:])]
    assert all("all" in answer and "invoice" not in answer for answer in answers)
    assert {len(answer) for answer in answers} == {2}


@pytest.mark.parametrize("embed", [None, MemoryEncoder().embed])
@pytest.mark.parametrize("labels", [("invoice", "refund"), ("refund", "invoice"), LABELS])
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


@pytest.mark.parametrize("many", [False, True])
def test_vectors_tell_what_no_word_tells(many: bool) -> None:
    """No two texts share a word or a run of characters; their vectors lie apart by label."""
    made = make_rows(60)
    rows = [row.model_copy(update={"text": chr(0x4E00 + place) * 6}) for place, row in enumerate(made)]
    learned = [row.model_copy(update={"target": join([row.target])}) if many else row for row in rows[:45]]
    place_of = {row.text: LABELS.index(row.target) for row in rows}

    def embed(texts: Sequence[str]) -> Vectors:
        return np.eye(len(LABELS), dtype=np.float32)[[place_of[text] for text in texts]]

    wanted = [join([row.target]) if many else row.target for row in rows[45:]]

    def right(model: FloorModel) -> float:
        return float(np.mean([one.answer == answer for one, answer in zip(model.predict(rows[45:]), wanted, strict=True)]))

    assert right(fit_floor(learned, LABELS, seed=1, many=many)) < 0.5
    assert right(fit_floor(learned, LABELS, seed=1, many=many, embed=embed)) == 1.0


@pytest.mark.parametrize("embed", [None, MemoryEncoder().embed])
@pytest.mark.parametrize("labels", [LABELS[:1], LABELS[:2], LABELS])
def test_of_several_labels_an_item_each_is_stored_as_it_was_fitted(
    labels: tuple[str, ...], embed: Callable[..., Vectors] | None, tmp_path: Path
) -> None:
    """Against the library's own pipeline, fitted anew, a label at a time: the log-odds are the library's, but for slope and offset."""
    rows = [row.model_copy(update={"target": join({row.target} & set(labels))}) for row in make_rows(90)]
    vectors = partial(embed, Path()) if embed else None
    model = fit_floor(rows[:60], labels, seed=1, many=True, embed=vectors)
    write_linear(model.linear, tmp_path)
    if vectors:
        (tmp_path / "encoder").mkdir()
    stored, train = read_linear(tmp_path), sorted(rows[:60], key=lambda row: row.id)
    texts, asked = [row.text for row in train], [row.text for row in rows[60:]] + ["", "words that nobody wrote"]
    union = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
        ]
    )
    matrix, questions = union.fit_transform(texts).toarray(), union.transform(asked).toarray()
    found = stored.log_probabilities(asked, vectors(asked) if vectors else None)
    odds = found - np.log(-np.expm1(found))
    for place, label in enumerate(labels):
        borne = [label in split(row.target) for row in train]
        errors = []
        for length in LENGTHS if vectors else (0.0,):
            beside = [
                np.hstack([part, length * vectors(said)]) if vectors else part for part, said in ((matrix, texts), (questions, asked))
            ]
            fitted = LogisticRegression(C=30.0, max_iter=1_000, tol=1e-5, class_weight="balanced").fit(beside[0], borne)
            theirs = fitted.decision_function(beside[1])
            line = np.polyfit(theirs, odds[:, place], 1)
            assert line[0] > 0
            errors.append(np.abs(np.polyval(line, theirs) - odds[:, place]).max())
        assert min(errors) < 2e-3


def test_a_rare_label_is_learned_from_the_rows_that_bear_it() -> None:
    """One row in a hundred bears it, and says so in one word of many: the solver must not end before it has learned that."""
    drawn, plain = random.Random(3), make_rows(1_400)
    rows = []
    for number, row in enumerate(plain):
        bears = number % 100 == 0
        said = " ".join(drawn.sample(WORDS_OF_NO_MEANING, 8)) + (" arbitration" if bears else "")
        rows.append(row.model_copy(update={"text": f"{said} {number}", "target": join(["refund"] if bears else [])}))
    model = fit_floor(rows[:1_000], LABELS, seed=1, many=True, goal="macro_f1")
    given = [split(prediction.answer) for prediction in model.predict(rows[1_000:])]
    assert [bool(answer) for answer in given] == [row.target == "refund" for row in rows[1_000:]]
    probabilities = np.exp(model.linear.log_probabilities([row.text for row in rows[1_000:]]))
    assert probabilities[:, LABELS.index("refund")].mean() == pytest.approx(0.01, abs=0.01), "what is told is a probability"
