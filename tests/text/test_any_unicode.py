"""Whatever reads texts takes any Unicode: all planes, digits of all scripts, letters whose case changes length, halves of pairs, NUL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from support.unicode_texts import ANY_TEXT
from tailorbird.chat import conversations, tool_calls
from tailorbird.chat.templates import render_here
from tailorbird.data import contamination, pseudonyms, quality
from tailorbird.data.duplicates import shared_text
from tailorbird.data.duplicates.near_duplicates import alike, near_duplicates
from tailorbird.domain.curation import QualityPolicy
from tailorbird.domain.dataset import Document, Provenance, Row, Split
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, split_reasoning
from tailorbird.evaluation import json_answers
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import measure
from tailorbird.monitoring.sketch import sketch
from tailorbird.reporting import markdown
from tailorbird.text import dates, label_rules, linear_classifier, regex, search_index, terminal_text, words
from tailorbird.text.label_rules import answered_label
from tailorbird.text.words import nearest, normalise, normalise_answer
from tailorbird.usecases.erasure import text_finder

#: What says in one of our own errors that a text is not what it should be.
REFUSALS = (TailorbirdError, tool_calls.ToolFault)
TEMPLATE = "{% for message in messages %}<|{{ message.role }}|>{{ message.content | trim | upper }}{% endfor %}"


def folded(text: str) -> str:
    return conversations.fold_turns([Message(role=role, content=text) for role in ("user", "assistant", "user")])


def of_a_conversation(text: str) -> None:
    whole = folded(text)
    assert conversations.unfold_turns(whole)[0].content == text
    conversations.with_parts(whole, str.upper)
    for read in (conversations.earlier_answers, conversations.last_user_turn, conversations.as_lines, conversations.parts_of):
        read(whole)


def measured(task: TaskKind, answer: str, target: str) -> None:
    target = target or "none"
    origin = Provenance(file="f", line=1, origin="written for a test", license="Apache-2.0", collected="2025", consent="public")
    row = Row(id="sha256:" + "0" * 64, text=answer, target=target, split=Split.DEV, group="g", provenance=origin)
    labels = (target, target + "!") if task is TaskKind.CLASSIFY else ()
    chances = dict.fromkeys(labels, -0.7) or None
    spec = MeasureSpec(task, labels, 0.9, 1, 1.0)
    measure([row], [Prediction(item=row.id, answer=labels[1] if labels else answer, log_probabilities=chances)], spec)


def found_again(one: str, other: str) -> None:
    finder = text_finder.TextFinder([one], [other])
    if words.word_tokens(normalise(one)):
        assert finder.held_by(one)


def compared(one: str, other: str) -> None:
    """Rows are not blank: readers set those aside."""
    texts = [normalise(text) for text in (one, other, one + other) if text.strip()]
    if texts:
        near_duplicates(texts)
        shared_text.shared_text(texts).told(texts, texts)


def searched(one: str, other: str) -> None:
    entries = [Entry(id=str(place), text=text, access=("public",)) for place, text in enumerate((one, other))]
    search_index.SearchIndex.of(entries, None).find(one, (), frozenset({"public"}), 2)


OF_ONE: dict[str, Callable[[str], Any]] = {
    "sketch": sketch,
    "normalise": lambda text: (normalise(text), normalise_answer(text), nearest(text, ["label", text])),
    "words": lambda text: (words.word_tokens(text), words.paired_tokens(text), words.spaced_tokens(text)),
    "search words": search_index.words,
    "features": lambda text: [*linear_classifier.word_features(text), *linear_classifier.character_features(text)],
    "labels": lambda text: (label_rules.split(text), label_rules.check(text), label_rules.join([text, "other"])),
    "answered label": lambda text: answered_label(PromptSpec(instruction=text, labels=(text, text + "!")), text),
    "conversation": of_a_conversation,
    "broken conversation": lambda text: conversations.unfold_turns(conversations.MARK + text),
    "reasoning": split_reasoning,
    "template": lambda text: render_here(TEMPLATE, [Message(role="user", content=text)]),
    "passages": lambda text: search_index.passages_of(Document(id="1", text=text, access=("public",))),
    "quality": lambda text: (quality.QualityChecker(QualityPolicy(), answers=True).broken(text, text), quality.language_of(text)),
    "dates": lambda text: (dates.is_year(text), dates.is_other_day(text), dates.is_dated(text), dates.time_of(text)),
    "pattern": lambda text: (regex.occurs(r"\d+\w", text), regex.check_pattern(text), regex.matches(text, text)),
    "json": json_answers.json_object,
    "arguments": tool_calls.arguments_text,
    "markdown": lambda text: (markdown.markdown_cell(text), markdown.markdown_text(text)),
    "terminal": terminal_text.shown,
    "pseudonym": lambda text: (pseudonyms.pseudonym(b"k" * 32, "acme", text), pseudonyms.spellings(text)),
    "blank": label_rules.is_blank,
}
OF_TWO: dict[str, Callable[[str, str], Any]] = {
    "metrics of text": lambda one, other: [
        metric(one, other) for metric in (words.token_f1, words.word_precision, words.rouge_l, words.chrf)
    ],
    "metrics of json": lambda one, other: (json_answers.same_objects(one, other), json_answers.field_score(one, other)),
    "metrics of labels": lambda one, other: measured(TaskKind.CLASSIFY, one, other),
    "metrics of answers": lambda one, other: measured(TaskKind.GENERATE, one, other),
    "text finder": found_again,
    "near-duplicates": compared,
    "edit similarity": alike,
    "overlap": lambda one, other: contamination.overlapping([one, other, f"{one} {other}"]),
    "search": searched,
}


@pytest.mark.parametrize("name", OF_ONE)
@given(text=ANY_TEXT)
def test_what_reads_a_text_takes_any(name: str, text: str) -> None:
    with contextlib.suppress(REFUSALS):
        OF_ONE[name](text)


@pytest.mark.parametrize("name", OF_TWO)
@given(one=ANY_TEXT, other=ANY_TEXT)
def test_what_compares_texts_takes_any(name: str, one: str, other: str) -> None:
    OF_TWO[name](one, other)
