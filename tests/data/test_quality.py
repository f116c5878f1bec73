"""Quality rules, and the detection of languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.quality import QualityChecker
from tailorbird.domain.curation import QualityPolicy, QualityRule

R = QualityRule


LONG = (
    "please look into this matter of ours since it has been going on for far too long and nobody in your office has told us a thing about"
)


BROKEN = [
    (R.TOO_LONG, "x " * 6000, ""),
    (R.WRONG_LANGUAGE, "ich habe meine Karte verloren und weiß nicht wie ich sie sperren kann", ""),
    (R.REPETITION, "buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now buy now", ""),
    (R.MARKUP, "where is my <br/> card", ""),
    (R.REFUSAL, "cancel my order", "I'm sorry, but I can't assist with that request."),
    (R.TEMPLATE, "where is order {{Order Number}}", ""),
    (R.ROLE_ORDER, "Customer: hello\nCustomer: are you there?\nAgent: yes", ""),
    (R.ROLE_ORDER, "Agent: yes\nCustomer: hello", ""),
    (R.TRUNCATED, "hello", LONG + " it and we would like to have an answer from you before the end of this week, otherwise we"),
]


FINE = [
    ("where is my card?", ""),
    ("a < b and b > c", ""),
    ("Customer: hello\nAgent: hi\nCustomer: my card", ""),
    ("cancel my order", "I can't find that order: which number does it have?"),
    ("hi", LONG + " it."),
]


@pytest.mark.parametrize(("rule", "text", "answer"), BROKEN)
def test_a_rule_is_broken(rule: QualityRule, text: str, answer: str) -> None:
    policy = QualityPolicy(languages=("en",), max_characters=10_000)
    assert rule in QualityChecker(policy, answers=True).broken(text, answer)


@pytest.mark.parametrize(("text", "answer"), FINE)
def test_no_rule_is_broken(text: str, answer: str) -> None:
    assert QualityChecker(QualityPolicy(languages=("en",)), answers=True).broken(text, answer) == ()


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_row_can_be_judged(text: str, answer: str) -> None:
    QualityChecker(QualityPolicy(languages=("en",)), answers=True).broken(text, answer)
