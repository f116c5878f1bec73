"""A stored linear model answers as the library's did, whatever the text; files that are no such model are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.text.linear_classifier import LinearText, character_features, read_linear, word_features, write_linear

WORDS: Any = TfidfVectorizer(ngram_range=(1, 2)).build_analyzer()
CHARACTERS: Any = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).build_analyzer()


@given(st.text(max_size=60))
def test_features_are_those_of_the_library(text: str) -> None:
    assert sorted(word_features(text)) == sorted(WORDS(text))
    assert sorted(character_features(text)) == sorted(CHARACTERS(text))


def model(labels: int = 3) -> LinearText:
    rows = labels if labels > 2 else 1
    random = np.random.default_rng(1)
    return LinearText(
        labels=tuple("abcdef"[:labels]),
        words={"card": 0, "lost card": 1},
        characters={" ca": 2, "car": 3},
        idf_F=np.array([1.0, 2.0, 1.5, 1.25]),
        weights_KF=random.normal(size=(rows, 4)),
        intercepts_K=random.normal(size=rows),
    )


@pytest.mark.parametrize("labels", [2, 3])
def test_what_was_written_is_read(labels: int, tmp_path: Path) -> None:
    write_linear(model(labels), tmp_path)
    again = read_linear(tmp_path)
    asked = ["my lost card", "nothing known", ""]
    np.testing.assert_array_equal(again.log_probabilities(asked), model(labels).log_probabilities(asked))
    np.testing.assert_allclose(np.exp(again.log_probabilities(asked)).sum(axis=1), 1)


def test_what_is_no_floor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid):
        read_linear(tmp_path)
    write_linear(model(), tmp_path)
    told = json.loads((tmp_path / "floor.json").read_text())
    (tmp_path / "floor.json").write_text(json.dumps(told | {"words": ["card"]}))
    with pytest.raises(ModelInvalid):
        read_linear(tmp_path)
