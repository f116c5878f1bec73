"""Word runs that two texts share."""

from __future__ import annotations

import pytest

from tailorbird.data.contamination import overlapping

QUESTION = "where can i use this card when i am travelling in the whole country next month"


def test_a_text_quoted_in_a_longer_one_overlaps_and_a_phrase_does_not() -> None:
    quoted = f"a customer wrote yesterday and nobody knew: {QUESTION} and i said that we would come back to it soon enough"
    phrase = "this e-mail is confidential and meant for the person named in it only"
    signed = [
        f"{word} {word}{word} {phrase}"
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
    ]
    assert overlapping([QUESTION, quoted, "where can i use this card"]) == [(0, 1)]
    assert overlapping(signed) == []
    assert overlapping([]) == overlapping(["one"]) == []


@pytest.mark.parametrize(
    ("quoted", "around", "other"),
    [
        ("我的车昨天晚上在停车场被偷了请尽快处理理赔", "客户写道{}我们会尽快回复", "我的狗今天早上在公园里走丢了请帮我发布寻狗启事"),
        ("เมื่อคืนนี้รถยนต์ของผมหายไปจากลานจอดรถของห้างสรรพสินค้าใหญ่", "ลูกค้าเขียนว่า{}ครับ", None),
    ],
)
def test_a_text_without_spaces_that_is_quoted_overlaps(quoted: str, around: str, other: str | None) -> None:
    """Such a sentence was one word, so that no run of eight was ever found."""
    texts = [quoted, around.format(quoted), other or "somebody wrote of something else in other words than these are"]
    assert overlapping(texts) == [(0, 1)]


@pytest.mark.parametrize("phrase", ["我的订单在哪里呢谢谢"])
def test_a_phrase_of_few_words_in_characters_holds_nothing(phrase: str) -> None:
    """It has more than eight characters, and counts for less than eight words."""
    assert overlapping([phrase, f"{phrase}我想问一下关于保险的事情因为昨天没有人接电话"]) == []


def test_long_texts_without_spaces_that_share_half_overlap() -> None:
    """By a run of thirteen words, 26 characters, where less than 7 in 10 runs of eight are shared."""
    shared = "被保险人应当在保险事故发生后四十八小时之内通知保险公司并提供有关证明"
    assert len(shared) >= 2 * 13
    one, other = f"{shared}否则公司不承担赔偿责任但不可抗力除外", f"第五条规定{shared}本条自签字之日起生效适用全国各地分支机构"
    assert overlapping([one, other]) == [(0, 1)]
    assert overlapping([one[:10] + one[30:], other[:10]]) == []
