"""Trials of prompts where a search ends before its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.rungs import make_rows
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.ports.endpoint import HostedAnswer
from tailorbird.rungs.answer_journal import AnswerJournal
from tailorbird.rungs.prompt_trials import PromptTrials, Trial
from tailorbird.rungs.trial_answers import NamedLabels


def test_a_prompt_that_is_not_read_on_a_later_row_is_not_the_best_so_far(tmp_path: Path) -> None:
    rows = make_rows(40)[:16]
    labels = tuple(sorted({row.answer for row in rows}))
    right = {row.text: row.answer for row in rows}
    long, short = (Trial(PromptSpec(instruction=text, labels=labels), text) for text in ("long", "short"))

    def ask(prompts: Sequence[Sequence[Message]], _: Sampling) -> list[HostedAnswer]:
        found = []
        for prompt in prompts:
            known = prompt[0].content.startswith("long")
            if known and prompt[-1].content == rows[9].text:
                raise InvalidInput("too long", "shorten it", code="prompt_too_long")
            text = right[prompt[-1].content] if known else ""
            found.append(HostedAnswer(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1.0))
        return found

    journal = AnswerJournal(tmp_path / "answers.jsonl", digest_of("origin"))
    trials = PromptTrials(NamedLabels(ask), rows, journal, 100, lambda _done, _of: None)
    assert trials.holding([long, short], 8) == [long, short]
    assert trials.best_so_far() == long
    assert trials.holding([long, short], 12) == [short]
    assert trials.best_so_far() == short
