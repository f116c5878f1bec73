"""Labels in the words of a model that writes its answer."""

from __future__ import annotations

import pytest

from tailorbird.domain.prompt import PromptSpec
from tailorbird.text.label_rules import answered_label

ONE = PromptSpec(instruction="Route.", labels=("refund", "refund missing", "login", "I/O error"))
MANY = PromptSpec(instruction="Route.", labels=("refund", "login"), label_sets=("login", "login | refund", "none"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" Refund.\n", "refund"),
        ("**Refund Missing**", "refund missing"),
        ("Label: login", "login"),
        ("This message is about a refund missing from the account.", "refund missing"),
        ("It could be refund, or login.", ""),
        ("refunds", ""),
        ("", ""),
    ],
)
def test_one_label(text: str, label: str) -> None:
    assert answered_label(ONE, text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [("Login|Refund.", "login | refund"), ("None.", "none"), ("refund | delivery", ""), ("refund | none", "")],
)
def test_several_labels(text: str, label: str) -> None:
    assert answered_label(MANY, text) == label


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        ((":)", ":("), "The tone is :( here", ":("),
        (("*", "**", "***"), "**", "**"),
        (("A", "A*"), "(A)", ""),
        (("action", "class action"), "class action", "class action"),
    ],
)
def test_a_label_is_never_taken_for_one_that_looks_alike(labels: tuple[str, ...], text: str, label: str) -> None:
    assert answered_label(PromptSpec(instruction="Route.", labels=labels), text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("<think>\nA refund, or a login?\n</think>\n\nlogin", "login"),
        ("A refund, or a login?\n</think>\n\nLabel: login", "login"),
        ("<think>\nIt may be a refund", ""),
    ],
)
def test_reasoning_before_the_answer_names_no_label(text: str, label: str) -> None:
    assert answered_label(ONE, text) == label


@pytest.mark.parametrize(
    ("labels", "text", "label"),
    [
        (("退款", "换货"), "答案是退款。", "退款"),
        (("退款", "换货"), "不是退款，是换货", ""),
        (("退款", "退款失败"), "客户说退款失败了", "退款失败"),
    ],
)
def test_labels_in_writing_without_spaces(labels: tuple[str, ...], text: str, label: str) -> None:
    assert answered_label(PromptSpec(instruction="Route.", labels=labels), text) == label
