"""Free text in Markdown is shown as it stands, by a reader of CommonMark."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tailorbird.reporting.markdown import markdown_text

READER = MarkdownIt("commonmark").enable("table")
PIECES = st.sampled_from([*"*_`~|<>#&=!a \\", "__", "- ", "+ ", "1. ", "1) ", "[a](b)", "![a](b)", "[a]: b", "&lt;"])


def shown(markdown: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", READER.render(markdown))).strip()


@pytest.mark.parametrize("text", ["refund_missing", "0.85 [0.80, 0.90]", "A & B"])
def test_plain_words_stay_readable(text: str) -> None:
    assert markdown_text(text) == text


@pytest.mark.parametrize("text", ["__init__", "*x*", "`code`", "a | b", "<b>", "&lt;", "# head", "- item", "[a](http://b)"])
def test_marks_are_shown_and_not_read(text: str) -> None:
    assert shown(markdown_text(text)) == text
    assert READER.render(markdown_text(text)).count("<") == 2, "one paragraph and nothing in it"


@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_is_written_is_shown(text: str) -> None:
    line = " ".join(text.split())
    assert shown(markdown_text(text)) == line
    assert shown("- " + markdown_text(text)) == line
