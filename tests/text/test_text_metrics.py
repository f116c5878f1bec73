"""ROUGE-L, chrF and word overlap against the libraries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.text.text_metrics import chrf, rouge_l, token_f1, word_precision

#: Written by scripts/overlap_oracle.py with rouge-score 0.1.2 and sacrebleu 2.5.1.
ORACLE = json.loads((Path(__file__).parent / "overlap_oracle.json").read_text(encoding="utf-8"))


WORDS = st.text(alphabet="abc é1 .", max_size=30)


@pytest.mark.parametrize("row", ORACLE, ids=lambda row: row["answer"][:20])
def test_overlaps_agree_with_the_libraries(row: dict[str, str]) -> None:
    assert rouge_l(row["answer"], row["target"]) == pytest.approx(row["rouge_l"], abs=1e-9)
    assert chrf(row["answer"], row["target"]) == pytest.approx(row["chrf"], abs=1e-9)


@given(WORDS, WORDS)
def test_overlaps_are_shares_and_1_for_the_same_text(one: str, other: str) -> None:
    for overlap in (rouge_l, chrf, token_f1, word_precision):
        assert 0 <= overlap(one, other) <= 1 + 1e-12
        assert overlap(one, one) == pytest.approx(1)
