"""Answers that are JSON objects."""

from __future__ import annotations

import pytest

from tailorbird.text.json_answers import json_object, same_objects


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', '{"a": NaN}', '{"a": [Infinity]}', '{"a": -Infinity}', '{"a": 1e400}', '{"a": -1e400}'],
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
