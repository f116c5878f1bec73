"""The rule by which the benchmark of decisions knows the right answer, and the rows of its beds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "decision"))

from beds import DATA
from kinds import KINDS, _parts
from known_answers import NONE, right_answer

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no public data sets here: set TAILORBIRD_TEST_DATA")


def test_the_cheapest_that_passes_is_right_unless_a_costlier_one_is_clearly_better() -> None:
    assert right_answer({"a": 0.80, "b": 0.81}, 0.6, 100) == "a"
    assert right_answer({"a": 0.75, "b": 0.95}, 0.6, 100) == "b"
    assert right_answer({"a": 0.30, "b": 0.85}, 0.6, 100) == "b"
    assert right_answer({"a": 0.30, "b": 0.40}, 0.6, 100) == NONE


@pytest.mark.parametrize("truth", [{"a": 0.65}, {"a": 0.58}, {"a": 0.8, "b": 0.87}], ids=["barely passes", "barely fails", "barely better"])
def test_what_dev_could_not_tell_is_asked_of_nobody(truth: dict[str, float]) -> None:
    assert right_answer(truth, 0.6, 60) is None


@needs_data
@pytest.mark.parametrize("name", KINDS)
def test_no_text_stands_in_two_parts_of_a_bed(name: str) -> None:
    texts = [{text for text, _ in rows} for rows in _parts(KINDS[name]).values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == sum(KINDS[name].sizes)
