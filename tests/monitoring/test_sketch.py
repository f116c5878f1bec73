"""Sketches are the same everywhere, blind to what does not matter, near for like texts, and refuse what is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import InvalidInput
from tailorbird.monitoring.sketch import DIMENSIONS, sketch, vector

#: Written down once: a sketch in a ledger must still mean the same after an upgrade of Python, numpy or this file.
KNOWN = {
    "": "A" * 86 + "==",
    "hello world": "KtbWKtYqKtbWgX9/1ioq1ip/1tYq1ip/Kip/KioqKtYq1taB1tbWfyp/KiqBf9Yq1tbWKtbW1tbW1irWKn8qKg==",
    "Meine Karte wurde gesperrt, was nun?": "ylsS7jY2EsrKyhLuWzal7hLKpaU2pRISgaXuysru7u7upe5bEjYS7jY2Eu5byu6l7lul7qXKyoGl7soSpTbK7g==",
    "我的卡丢了": "7u7uEhLKylvKNso2EhISyhJbNjbuyhISEu5b7hLKNsqlNsrKgTbu7u4S7oES7lvKyqVbge4Syu4SpVtbNu7u7g==",
}


@pytest.mark.parametrize("text", KNOWN)
def test_a_sketch_never_changes(text: str):
    assert sketch(text) == KNOWN[text]


@given(st.text(max_size=300))
def test_any_text_has_a_sketch_of_88_characters_and_length_one_or_zero(text: str):
    found = vector(sketch(text))
    assert len(sketch(text)) == 88
    assert found.shape == (DIMENSIONS,)
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5) or not found.any()


def cosine(one: str, other: str) -> float:
    return float(vector(sketch(one)) @ vector(sketch(other)))


def test_like_texts_are_near_and_unlike_ones_are_not():
    text = "I have lost my bank card and would like a new one sent to my home address please"
    assert cosine(text, text.replace("home", "office")) > 0.7
    assert abs(cosine(text, "Transfers abroad take how many working days until they arrive")) < 0.4


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "hello",
        "é" * 88,
    ],
)
def test_what_is_no_sketch_is_refused_without_being_repeated(wrong: str):
    with pytest.raises(InvalidInput) as refusal:
        vector(wrong)
    assert refusal.value.error_code == "invalid_input"
    assert not wrong or wrong not in str(refusal.value)
