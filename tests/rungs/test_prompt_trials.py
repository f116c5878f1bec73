"""Trials of prompts where a search ends before its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.rungs import make_rows
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.ports.endpoint import HostedAnswer, KeepAnswer, keep_nothing
from tailorbird.rungs.prompt_search import AnswerJournal, NamedLabels, PromptTrials, Trial

LONG, SHORT = "long", "short"


class Server:
    """A hosted model that knows every label behind the long prompt, and does not read one row behind it."""

    def __init__(self, rows: Sequence[Row], unread: int) -> None:
        self._right = {row.text: row.answer for row in rows}
        self._unread = rows[unread].text
        self.given = 0

    def ask(self, prompts: Sequence[Sequence[Message]], sampling: Sampling, keep: KeepAnswer = keep_nothing) -> list[HostedAnswer]:
        del sampling
        found = []
        for place, prompt in enumerate(prompts):
            known = prompt[0].content.startswith(LONG)
            if known and prompt[-1].content == self._unread:
                continue
            text = self._right[prompt[-1].content] if known else ""
            found.append(HostedAnswer(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1.0))
            keep(place, found[-1])
        self.given += len(found)
        if len(found) < len(prompts):
            raise InvalidInput("too long", "shorten it", code="prompt_too_long")
        return found


def trials_of(folder: Path, unread: int) -> tuple[PromptTrials, Server, Trial, Trial]:
    rows = make_rows(40)[:16]
    labels = tuple(sorted({row.answer for row in rows}))
    server, journal = Server(rows, unread), AnswerJournal(folder / "answers.jsonl", digest_of("origin"))
    long, short = (Trial(PromptSpec(instruction=text, labels=labels), text) for text in (LONG, SHORT))
    return PromptTrials(NamedLabels(server.ask), rows, journal, 100, lambda _done, _of: None), server, long, short


def test_a_prompt_that_is_not_read_on_a_later_row_is_not_the_best_so_far(tmp_path: Path) -> None:
    trials, _, long, short = trials_of(tmp_path, unread=9)
    assert trials.holding([long, short], 8) == [long, short]
    assert trials.best_so_far() == long
    assert trials.holding([long, short], 12) == [short]
    assert trials.best_so_far() == short


def test_answers_beside_one_that_fails_are_counted_and_not_asked_for_again(tmp_path: Path) -> None:
    """They are paid for."""
    trials, server, long, _ = trials_of(tmp_path, unread=1)
    assert trials.holding([long], 4) == []
    assert trials.calls == server.given == 3
    assert len(trials.answers(long.prompt, [row for place, row in enumerate(trials.rows[:4]) if place != 1])) == 3
    assert trials.calls == server.given == 3
