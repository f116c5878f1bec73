"""Answers that are JSON objects."""

from __future__ import annotations

import json

import pytest

from tailorbird.evaluation.json_answers import field_score, is_long_text, json_object, same_objects


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e400}'],
)
def test_what_readers_read_differently_is_no_object(text: str) -> None:
    """The last of two keys won, and all that is larger than any number was the same."""
    assert json_object(text) is None
    assert same_objects(text, text) is None
    assert same_objects(text, '{"a": 2}') is None


def test_objects_that_say_the_same_are_the_same() -> None:
    assert same_objects('{"a": 2, "b": "X y"}', ' {"b":"x  Y", "a":2.0}')
    assert same_objects('{"a": 1e2}', '{"a": 100}')
    assert same_objects('{"a": true}', '{"a": 1}') is False
    assert same_objects('{"A": 1}', '{"a": 1}') is False


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('{"said": "The mill has lost  both keys", "b": 2.0, "a": "X"}', 1.0),
        ('{"a": "x", "b": 3, "said": "the mill has lost both keys"}', 2 / 3),
        ('{"a": "x", "b": 2, "said": "the mill has lost one key"}', (2 + 4 / 6) / 3),
        ('{"a": "x", "b": 2, "said": "the mill has lost both keys", "more": 1}', 3 / 4),
        ("no object", 0.0),
    ],
)
def test_near_misses_of_an_object_are_told_apart(answer: str, score: float) -> None:
    assert field_score(answer, '{"a": "x", "b": 2, "said": "the mill has lost both keys"}') == pytest.approx(score)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("2024年5月12日", "2024年5月13日"),
        ("DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 01"),
    ],
)
def test_of_dates_numbers_and_single_words_nearly_the_same_is_wrong(value: str, wrong: str) -> None:
    """Each character without spaces, and each group of digits, was a word, so that the wrong date had 0.83."""
    assert not is_long_text(value)
    reference = json.dumps({"said": value})
    assert field_score(json.dumps({"said": wrong}), reference) == 0.0
    assert field_score(reference, reference) == 1.0
