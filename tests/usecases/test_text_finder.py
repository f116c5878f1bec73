"""Texts are found again in others, and short ones are not found everywhere."""

from __future__ import annotations

import pytest

from tailorbird.usecases.erasure.text_finder import TextFinder, is_long

LONG = "My parcel to the old mill road never came, and nobody told me why."


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        f"  {LONG.replace(' ', '   ')} ",
        f"Hello! {LONG} Please help.",
        "my parcel to the old mill road never came and nobody told me why",
    ],
)
def test_a_text_is_found_whole_and_as_a_part_whatever_its_case_and_marks(text: str) -> None:
    assert TextFinder([LONG]).held_by(text)


@pytest.mark.parametrize("text", ["", "...", "My parcel to the old mill road never came.", "never came, and nobody told me why"])
def test_a_part_of_it_is_not_it(text: str) -> None:
    assert not TextFinder([LONG]).held_by(text)


def test_a_short_text_is_found_only_where_it_is_all_that_is_said() -> None:
    quotes = TextFinder(["where is my order"])
    assert quotes.held_by("Where is my order?")
    assert not quotes.held_by("where is my order, which I made on monday")


def test_names_are_found_as_words_and_short_ones_not_at_all() -> None:
    quotes = TextFinder([], ["Ada Lovelace", "7", "Al"])
    assert quotes.held_by("this is ADA  LOVELACE speaking")
    assert not quotes.held_by("Ada said 7 things to Al")
    assert not quotes.held_by("Ada Lovelaces")
    assert not TextFinder(["", "!"], ["7"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("王小明", "客户王小明说车被偷了"),
        ("김민수", "어제 김민수는 전화했다"),
        ("สมชาย", "คุณสมชายโทรมา"),
        ("रामदेव", "कल रामदेव ने फ़ोन किया"),
        ("ジョン スミス", "ジョン・スミス です"),
        ("김민수", "어제 Anna김 민수입니다"),
    ],
)
def test_names_are_found_where_no_space_stands_beside_them(name: str, text: str) -> None:
    """The whole of ``text`` was one word, and a name of three characters too short to be looked for."""
    quotes = TextFinder([], [name])
    assert quotes.held_by(text)
    if name in text:
        assert not quotes.held_by(text.replace(name, name[:-1]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("มด", "ขอยกเลิกทั้งหมดครับ"),
        ("นา", "ขอเวลานานไหม"),
        ("かな", "届くかなと思って"),
        ("지수", "소비자물가지수가 올랐다"),
    ],
)
def test_parts_of_other_words_are_no_names(name: str, text: str) -> None:
    """A name of two sounds stands in everybody's words, and one of Korean begins where no other syllable stands before it."""
    assert not TextFinder([], [name]).held_by(text)


def test_a_long_text_without_spaces_is_found_as_a_part() -> None:
    said = "我的车昨天晚上在停车场被偷了,请尽快处理理赔"
    assert is_long(said)
    assert TextFinder([said]).held_by(f"转发:{said}谢谢")
    assert not is_long("车被偷了怎么办")
    assert not TextFinder(["车被偷了怎么办"]).held_by("请问车被偷了怎么办呢")


@pytest.mark.parametrize("phrase", ["お問い合わせいただきありがとうございます", "안녕하세요 문의드립니다 감사합니다", "ขอบคุณที่ติดต่อเราครับ"])
def test_stock_phrases_are_no_parts(phrase: str) -> None:
    """Counted as words, their characters and syllables were eight, and everybody's answers were erased with them."""
    assert not is_long(phrase)
    assert TextFinder([phrase]).held_by(f"{phrase}.")
    assert not TextFinder([phrase]).held_by(f"A-17: {phrase} 123")
