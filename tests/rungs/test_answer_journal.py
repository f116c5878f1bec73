"""Journal of answers: what is kept, and what is done with a file that is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.rungs.prompt_search import AnswerJournal

ORIGIN, OTHER = digest_bytes(b"one"), digest_bytes(b"other")
KEY = "7a" * 32


@pytest.mark.parametrize("key", ["", KEY])
def test_what_was_put_is_there_when_it_is_opened_again(tmp_path: Path, key: str) -> None:
    place = tmp_path / "work" / "answers.jsonl"
    written = AnswerJournal(place, ORIGIN, key)
    written.put({"a": [-0.1, -2.25], "b": "said"})
    written.put({"c": 0.5})
    again = AnswerJournal(place, ORIGIN, key)
    assert [again.get(name) for name in "abcd"] == [[-0.1, -2.25], "said", 0.5, None]
    assert (b"said" in place.read_bytes()) is not bool(key)


@pytest.mark.parametrize("key", ["", KEY])
def test_a_line_that_a_kill_cut_off_is_written_again(tmp_path: Path, key: str) -> None:
    place = tmp_path / "answers.jsonl"
    written = AnswerJournal(place, ORIGIN, key)
    written.put({"a": 1})
    whole = place.read_bytes()
    written.put({"b": 2})
    place.write_bytes(place.read_bytes()[:-5])
    cut = AnswerJournal(place, ORIGIN, key)
    assert place.read_bytes() == whole
    cut.put({"b": 3})
    assert [AnswerJournal(place, ORIGIN, key).get(name) for name in "ab"] == [1, 3]


def test_a_journal_of_other_answers_is_begun_anew(tmp_path: Path) -> None:
    place = tmp_path / "answers.jsonl"
    AnswerJournal(place, ORIGIN).put({"a": 1})
    assert AnswerJournal(place, OTHER).get("a") is None
    assert AnswerJournal(place, ORIGIN).get("a") is None


def test_sealed_lines_cannot_change_places_nor_be_read_with_another_key(tmp_path: Path) -> None:
    place = tmp_path / "answers.jsonl"
    written = AnswerJournal(place, ORIGIN, KEY)
    written.put({"a": 1})
    written.put({"b": 2})
    header, one, two = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(header + two + one)
    moved = AnswerJournal(place, ORIGIN, KEY)
    assert (moved.get("a"), moved.get("b")) == (None, None)
    assert AnswerJournal(place, ORIGIN, "5b" * 32).get("a") is None
