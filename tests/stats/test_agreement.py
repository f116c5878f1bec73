"""Agreement against the worked examples of those who defined it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from tailorbird.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, over_items


def test_cohens_example() -> None:
    # Cohen 1960 by way of the usual textbook table: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no.
    table = [["y", "y"]] * 20 + [["y", "n"]] * 5 + [["n", "y"]] * 10 + [["n", "n"]] * 15
    assert cohen_kappa(table) == pytest.approx(0.4)
    assert cohen_kappa([*table, ["y", None]]) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=40))
def test_cohen_agrees_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    found = cohen_kappa([list(pair) for pair in pairs])
    if found is not None:
        assert found == pytest.approx(cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs]))


def test_fleiss_example() -> None:
    # Fleiss 1971: 10 subjects, 14 raters, 5 categories, kappa 0.210.
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    ratings = [[category for category, count in enumerate(row) for _ in range(count)] for row in counts]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_example() -> None:
    # Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units, gaps; nominal alpha 0.743.
    observers = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    rows = [[None if mark == "." else mark for mark in observer.split()] for observer in observers]
    assert krippendorff_alpha(list(zip(*rows, strict=True))) == pytest.approx(0.743, abs=5e-4)


def test_what_is_undefined_is_none() -> None:
    alike = [["a", "a"], ["a", "a"]]
    for coefficient in (cohen_kappa, fleiss_kappa, krippendorff_alpha):
        assert coefficient(alike) is None
        assert coefficient([["a", None], [None, "b"]]) is None
    assert fleiss_kappa([["a", "b"], ["a", "b", "b"]]) is None
    assert over_items(krippendorff_alpha, alike, 0.9, 3) is None
    assert over_items(krippendorff_alpha, [], 0.9, 3) is None


def test_perfect_agreement_is_1_and_its_interval_holds_it() -> None:
    ratings = [["a", "a"], ["b", "b"]] * 10
    for coefficient in (cohen_kappa, fleiss_kappa, krippendorff_alpha):
        assert coefficient(ratings) == 1
        assert over_items(coefficient, ratings, 0.9, 3) == (1.0, 1.0)
