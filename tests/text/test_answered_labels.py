"""Labels in the words of a model that writes its answer."""

from __future__ import annotations

import pytest

from tailorbird.domain.prompt import PromptSpec
from tailorbird.text.answered_labels import answered_label

ONE = PromptSpec(instruction="Route.", labels=("refund", "refund missing", "login", "I/O error"))
MANY = PromptSpec(instruction="Route.", labels=("refund", "login"), label_sets=("login", "login | refund", "none"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("refund", "refund"),
        (" Refund.\n", "refund"),
        ('"refund"', "refund"),
        ("**Refund Missing**", "refund missing"),
        ("Label: login", "login"),
        ("The answer is login.", "login"),
        ("This message is about a refund missing from the account.", "refund missing"),
        ("i/o error", "I/O error"),
        ("It could be refund, or login.", ""),
        ("refunds", ""),
        ("", ""),
        ("I cannot help with that.", ""),
    ],
)
def test_one_label(text: str, label: str) -> None:
    assert answered_label(ONE, text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("refund | login", "login | refund"),
        ("Login|Refund.", "login | refund"),
        ("none", "none"),
        ("None.", "none"),
        ("refund | delivery", ""),
        ("", ""),
        ("refund |", "refund"),
        ("refund | none", ""),
    ],
)
def test_several_labels(text: str, label: str) -> None:
    assert answered_label(MANY, text) == label
