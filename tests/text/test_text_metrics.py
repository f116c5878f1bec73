"""ROUGE-L, chrF and word overlap against the libraries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.text.words import chrf, rouge_l, token_f1, word_precision

#: Written by scripts/overlap_oracle.py with rouge-score 0.1.2 and sacrebleu 2.5.1.
ORACLE = json.loads((Path(__file__).parent / "overlap_oracle.json").read_text(encoding="utf-8"))


WORDS = st.text(alphabet="abc é1 .", max_size=30)


@pytest.mark.parametrize("row", ORACLE, ids=lambda row: row["answer"][:20])
def test_overlaps_agree_with_the_libraries(row: dict[str, str]) -> None:
    if not re.search(r"[^\W_]", re.sub(r"[\x00-\x7f]", "", row["answer"] + row["target"])):  # to rouge-score other letters are none
        assert rouge_l(row["answer"], row["target"]) == pytest.approx(row["rouge_l"], abs=1e-9)
    assert chrf(row["answer"], row["target"]) == pytest.approx(row["chrf"], abs=1e-9)


@given(WORDS, WORDS)
def test_overlaps_are_shares_and_1_for_the_same_text(one: str, other: str) -> None:
    for overlap in (rouge_l, chrf, token_f1, word_precision):
        assert 0 <= overlap(one, other) <= 1 + 1e-12
        assert overlap(one, one) == pytest.approx(1)


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("Клиент отказался от полиса 3 мая", "В доме 3 протекла крыша", 2 * 1 / (6 + 5)),
        ("für", "fér", 0.0),
        ("车被偷了", "车被偷", 2 * 3 / (4 + 3)),
    ],
)
def test_rouge_l_reads_the_letters_of_every_script(answer: str, target: str, expected: float) -> None:
    """rouge-score keeps the 3 alone of the first two and gives them 1."""
    assert rouge_l(answer, target) == pytest.approx(expected)
