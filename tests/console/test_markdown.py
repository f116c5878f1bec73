"""Markdown in which nothing acts."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailorbird.console.web import markdown_html


def flat(text: str) -> str:
    """The HTML of ``text``, on one line."""
    return str(markdown_html(text)).replace("\n", "")


def test_documents_are_read_as_meant() -> None:
    text = "---\nlicense: mit\n---\n\n# A & B\n\n**bold** `x<y` 1 &lt; 2\n\n- one\n- two\n"
    text += "\n| a | b |\n| --- | --- |\n| 1 \\| 2 | `c` |\n\n    code here\n"
    made = flat(text)
    assert '<pre tabindex="0">license: mit</pre>' in made
    assert "<h3>A &amp; B</h3>" in made
    assert "<p><strong>bold</strong> <code>x&lt;y</code> 1 &lt; 2</p>" in made
    assert "<ul><li>one</li><li>two</li></ul>" in made
    assert '<th scope="col">a</th>' in made
    assert "<td>1 | 2</td><td><code>c</code></td>" in made
    assert '<pre tabindex="0">code here</pre>' in made


def test_no_heading_is_deeper_than_six() -> None:
    assert flat("###### x") == "<h6>x</h6>"


def test_a_table_without_a_head_names_its_rows() -> None:
    made = flat("|  |  |\n| --- | --- |\n| goal | Route it |\n\n| a | b |\n| --- | --- |\n| c | d |")
    assert made.count("<thead>") == 1
    assert '<th scope="row">goal</th><td>Route it</td>' in made
    assert '<th scope="col">a</th>' in made
    assert "<td>c</td><td>d</td>" in made


_TAGS = {"p", "ul", "ol", "li", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "div", "pre", "code", "strong", "em"}
_TAGS |= {"blockquote", "hr", "br"}
_BLOCKS = ["|", "`", "**", "#", "-", "1.", ">", "---", "```", "~~~x", "\\|", "{0}", "{x}", "a", "'", '"', "_", "("]
_ACTIVE = ["<script>", "&lt;b&gt;", "&#60;", "[a](javascript:b)", "![a](//b.c/d.png)", "<javascript:a>", "<http://a.b>", "[a]:b", "[a]"]
_PIECES = st.sampled_from([*_BLOCKS, *_ACTIVE, " ", "    ", "\n", "\n\n", "---\n", "\n- ", "\n# "])


def letters(text: str) -> list[str]:
    """Those of a text without its entities, however often they were escaped: within code they stand for themselves."""
    while (plain := html.unescape(text)) != text:
        text = plain
    return sorted(filter(str.isalpha, text))


@given(st.lists(_PIECES, max_size=40).map("".join))
@example("```&lt;b&gt;")
def test_whatever_is_written_only_tags_without_an_effect_come_out(text: str) -> None:
    made = str(markdown_html(text))
    assert set(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", made)) <= _TAGS
    assert set(re.findall(r"<[a-z0-9]+([^>]*)>", made)) <= {
        "",
        ' tabindex="0"',
        ' scope="col"',
        ' scope="row"',
        ' class="scroll" tabindex="0" role="group" aria-label="Table"',
        *(f' start="{number}"' for number in range(10)),
    }
    shown = re.sub(r"<[^>]*>", "", made)
    assert letters(shown) == letters(text), "all that was written is shown"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](https://example.org)",
        "![a](https://example.org/a.png)",
        "<javascript:alert(1)>",
        "<https://example.org>",
        "https://example.org",
        "[a]",
    ],
)
def test_markup_links_and_images_stay_text(text: str) -> None:
    made = flat(f"{text}\n\n[a]: javascript:alert(1)")
    assert made == f"<p>{html.escape(text)}</p><p>[a]: javascript:alert(1)</p>"


@pytest.mark.parametrize(
    "text",
    [
        "| a |\n|" + "-" * 50_000 + "x",
        "| a |\n|" + "| -" * 20_000 + "x",
        "|a" * 5_000 + "|\n" + "|-" * 5_000 + "|\n" + "|\n" * 5_000,
        "`" * 50_000 + "a",
        "a**b" * 10_000,
        "> " * 20_000,
        "[" * 50_000,
    ],
    ids=["rule", "cells", "rows", "ticks", "stars", "quotes", "brackets"],
)
def test_text_that_invites_backtracking_is_read(text: str) -> None:
    assert markdown_html(text)


@pytest.mark.parametrize(
    "text",
    ["> " * 25 + "hidden", "- " * 30 + "hidden", "1. " * 25 + "hidden", "```hidden info\ncode\n```", "| a |\n| --- |\n| b | hidden |"],
    ids=["quotes", "items", "numbers", "info", "cells"],
)
def test_no_word_is_left_out(text: str) -> None:
    assert "hidden" in flat(text)


def test_a_very_long_document_is_shown_as_it_is() -> None:
    """Tables and emphasis of a megabyte take many seconds."""
    text = "|a|b|\n|-|-|\n" + "|<x>|y|\n" * 100_000
    shown = markdown_html(text)
    assert shown.startswith("<pre")
    assert "&lt;x&gt;" in shown
