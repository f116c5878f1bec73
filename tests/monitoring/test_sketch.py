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


def test_case_spacing_punctuation_and_compatible_characters_do_not_count():
    assert sketch("I lost  my CARD!") == sketch("i lost my card") == sketch("I lost my ｃａｒｄ")


def test_the_order_of_neighbours_counts():
    assert sketch("card lost") != sketch("lost card")


def test_a_lone_surrogate_does_no_harm():
    assert len(sketch("broken \ud800 text\x00")) == 88


def cosine(one: str, other: str) -> float:
    return float(vector(sketch(one)) @ vector(sketch(other)))


def test_like_texts_are_near_and_unlike_ones_are_not():
    text = "I have lost my bank card and would like a new one sent to my home address please"
    assert cosine(text, text.replace("home", "office")) > 0.7
    assert abs(cosine(text, "Transfers abroad take how many working days until they arrive")) < 0.4


def test_the_cosine_is_that_of_the_counts_on_average():
    """Two texts of 40 words that share their first 20: 20 words and 19 pairs of 40 and 39 are common, a cosine of 0.49."""
    found = []
    for trial in range(200):
        shared, one, other = (" ".join(f"{side}{trial}x{place}" for place in range(20)) for side in "abc")
        found.append(cosine(f"{shared} {one}", f"{shared} {other}"))
    # Each is off by about 1/8, their mean by 1/8 / √200 = 0.009.
    assert np.mean(found) == pytest.approx(39 / 79, abs=0.04)
    assert np.std(found) < 0.2


def test_a_huge_text_is_read_in_part():
    start = "word " * 2000
    assert sketch(start + "other " * 10_000) == sketch(start)


@pytest.mark.parametrize("wrong", ["", "hello", "A" * 84, "é" * 88, "A" * 87 + "!"])
def test_what_is_no_sketch_is_refused_without_being_repeated(wrong: str):
    with pytest.raises(InvalidInput) as refusal:
        vector(wrong)
    assert refusal.value.error_code == "invalid_input"
    assert not wrong or wrong not in str(refusal.value)
