"""Trials of prompts on rows held out of train, in pairs and within a budget of calls: scores, and successive halving by them.

Every prompt is tried on the rows in one order, so that any two share the rows of the one that was tried on fewer. Halving spends the calls
where they tell: all prompts on few rows, the better half on more, and so on (Karnin et al. 2013; Jamieson & Talwalkar 2016, arXiv
1502.07943).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.rungs.answer_journal import AnswerJournal
from tailorbird.rungs.trial_answers import AnswerPrompts, Floats, TrialAnswers, preference
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.text.prompt_rendering import messages_for_row

_CONFIDENCE = 0.95
#: Rows of which an interval is asked, and on which a prompt is tried before it is dropped, at least.
_FEWEST = 8


@dataclass(frozen=True)
class Trial:
    """A prompt to try, where it is from, and the training rows that were shown to who wrote its instruction."""

    prompt: PromptSpec
    origin: str
    proposed_from: tuple[str, ...] = ()

    @property
    def name(self) -> Digest:
        """The prompt's digest."""
        return digest_of(self.prompt)

    @property
    def size(self) -> int:
        """Characters that it puts before every text."""
        shown = sum(len(one.text) + len(one.target) for one in self.prompt.demonstrations)
        return len(self.prompt.instruction) + shown + (sum(map(len, self.prompt.labels)) if self.prompt.list_labels else 0)


def distinct(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without later ones of the same prompt."""
    found: dict[Digest, Trial] = {}
    for trial in trials:
        found.setdefault(trial.name, trial)
    return list(found.values())


class PromptTrials:
    """Asks for answers to ``rows`` behind prompts, and scores them as ``answering`` does. No score depends on the order of trials. ``told``
    is told how many calls were made, of how many."""

    def __init__(
        self, answering: TrialAnswers, rows: Sequence[Row], journal: AnswerJournal, budget: int, told: Callable[[int, int], None]
    ) -> None:
        self._answering, self._rows, self._journal, self._told = answering, tuple(rows), journal, told
        self.metric, self.probable = answering.metric, answering.probable
        self._answers: dict[Digest, list[Any]] = {}
        self._trials: dict[Digest, Trial] = {}
        self._asked: set[str] = set()
        self._refused: set[Digest] = set()
        self._unread: InvalidInput | None = None
        self.budget, self.dropped = budget, Counter[str]()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows held out, in the order in which they are asked."""
        return self._rows

    @property
    def calls(self) -> int:
        """Calls that were made: each row that was answered behind a prompt, and each proposal, counts once, now or before a kill."""
        return len(self._asked)

    @property
    def left(self) -> int:
        """Calls that may still be made."""
        return max(0, self.budget - self.calls)

    @property
    def tried(self) -> tuple[Trial, ...]:
        """All prompts that were asked, in the order of their first row."""
        return tuple(self._trials.values())

    def seen(self, trial: Trial) -> int:
        """Rows that the prompt was tried on."""
        return len(self._answers.get(trial.name, ()))

    def refused(self, trial: Trial) -> bool:
        """True where the model does not read the prompt, on some row at least."""
        return trial.name in self._refused

    def count(self, keys: Iterable[str]) -> None:
        """Counts what was answered under ``keys`` of the journal, and tells how far the search is."""
        self._asked.update(keys)
        self._told(self.calls, self.budget)

    def extend(self, trial: Trial, count: int) -> None:
        """Tries the prompt on the first ``count`` rows. Raises what the engine raises."""
        known = self._answers.get(trial.name, [])
        if asked := self._rows[len(known) : count]:
            self._answers[trial.name] = known + self.answers(trial.prompt, asked)
            self._trials.setdefault(trial.name, trial)

    def answers(self, prompt: PromptSpec, rows: Sequence[Row]) -> list[Any]:
        """Log-probabilities of ``prompt.answers`` (classify, nats) or the text (generate) for each row, from the journal where it has
        them; each counts as a call."""
        name = digest_of(prompt)
        keys = [f"{name} {row.id}" for row in rows]
        asked = [(key, row) for key, row in zip(keys, rows, strict=True) if self._journal.get(key) is None]
        self._asked.update(set(keys) - {key for key, _ in asked})
        if asked:
            with self._answering.asked_behind(prompt) as answered:
                for start in range(0, len(asked), self._answering.batch):
                    self._ask(answered, prompt, asked[start : start + self._answering.batch])
        return [self._journal.get(key) for key in keys]

    def _ask(self, answered: AnswerPrompts, prompt: PromptSpec, rows: Sequence[tuple[str, Row]]) -> None:
        """Puts answers into the journal and counts them: of a batch that fails, those that came."""
        came = dict[str, Any]()
        try:
            answered([messages_for_row(prompt, row.text) for _, row in rows], lambda at, answer: came.update({rows[at][0]: answer}))
        finally:
            if came:
                self._journal.put(came)
                self.count(came)

    def mistakes(self, trial: Trial, rows: Sequence[Row]) -> list[tuple[Row, str]]:
        """Rows, not among those held out, whose answer comes out wrong (classify) or overlaps with theirs by less than most (generate), the
        worst first, each with what was answered. Rows that the model does not read behind this prompt are dropped and counted."""
        return self._answering.mistakes(trial.prompt, *self._read_alone(trial.prompt, rows))

    def _read_alone(self, prompt: PromptSpec, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Any]]:
        """Those of ``rows`` that the model reads behind the prompt, with their answers: where it does not read them together, asked in
        halves."""
        try:
            return rows, self.answers(prompt, rows)
        except InvalidInput as error:
            if not self._answering.is_unread(error):
                raise
            if len(rows) == 1:
                self.dropped["mistakes not read by the model"] += 1
                return (), []
        halves = [self._read_alone(prompt, part) for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :])]
        return [row for part, _ in halves for row in part], [answer for _, part in halves for answer in part]

    def preference(self, trial: Trial) -> tuple[float, ...]:
        """What the prompt makes the model prefer on the rows that it was tried on, log-probabilities (nats) in the order of
        ``prompt.answers``: the mean of what it gives them, with one more row that prefers nothing for each answer (batch calibration,
        Zhou et al. 2024, arXiv 2309.17249)."""
        return preference(np.array(self._answers[trial.name]))

    def scores(self, trial: Trial, count: int, priors: tuple[float, ...] | None = None) -> Floats:
        """The score in [0, 1] of each of the first ``count`` rows, which it was tried on. ``priors`` are taken off; None: what the prompt
        makes the model prefer on these rows."""
        return self._answering.scores(trial.prompt, self._rows[:count], self._answers[trial.name][:count], priors)

    def difference(self, upper: Trial, lower: Trial, count: int) -> tuple[float, float, float]:
        """How much better ``upper`` is on the first ``count`` rows, in pairs, with a 95 % interval."""
        found = self.scores(upper, count) - self.scores(lower, count)
        low, high = paired_interval(found.tolist(), [row.group for row in self._rows[:count]], _CONFIDENCE)
        return float(found.mean()), low, high

    def halve(self, trials: Sequence[Trial], calls: int) -> list[Trial]:
        """The trials that are left of ``trials`` after about ``calls`` calls, best first: in each round all are tried on more rows, and the
        worse half goes, and whatever is proven worse than the best. Where the calls pay for few rows of all of them, the first are tried.
        The first alone where they do not pay for a row each. Where the model has read no prompt at all, what stands in the way is raised:
        prompts that are too long, a template that breaks."""
        ends_at = self.calls + min(calls, self.left)
        field = self._entered(distinct(trials), ends_at - self.calls)
        if not field:
            return list(trials[:1])
        count = min(map(self.seen, field))
        for left in range(_rounds(len(field)) - 1, 0, -1):
            field = self._better_half(self.ranked(field, count), count)
            more = self.affordable(field, (ends_at - self.calls) // left)
            if more > count and (held := self.holding(field, more)):
                field, count = held, more
        return self._better_half(self.ranked(field, count), count)

    def _entered(self, waiting: Sequence[Trial], calls: int) -> list[Trial]:
        """Those of ``waiting`` that the first round was played with: as many of the first as it pays for on enough rows. Where the model
        reads none of them, the next are."""
        while waiting := [trial for trial in waiting if not self.refused(trial)]:
            field = waiting
            while len(field) > 2 and self.affordable(field, calls // _rounds(len(field))) < min(_FEWEST, len(self._rows)):
                field = field[:-1]
            count = self.affordable(field, calls // _rounds(len(field)))
            if not count:
                return []
            if held := self.holding(field, min(count, _FEWEST)):
                return self.holding(held, count) or held
        if self._unread is not None and not self._trials:
            raise self._unread
        return []

    def holding(self, field: Sequence[Trial], count: int) -> list[Trial]:
        """Those of ``field`` that the model reads on the first ``count`` rows, on which they are tried; the others are dropped and
        counted."""
        kept = list[Trial]()
        for trial in field:
            if self.refused(trial):
                continue
            try:
                self.extend(trial, count)
                kept.append(trial)
            except InvalidInput as error:
                if not self._answering.is_unread(error):
                    raise
                self._unread = error
                self._refused.add(trial.name)
                self.dropped["not read by the model"] += 1
        return kept

    def ranked(self, trials: Sequence[Trial], count: int) -> list[Trial]:
        """Best first, by the mean on the first ``count`` rows; of those that are alike, the shorter prompt."""
        return sorted(trials, key=lambda trial: (-round(float(self.scores(trial, count).mean()), 9), trial.size, trial.name))

    def best_so_far(self) -> Trial:
        """The best prompt where a search ends before its end: of those that were tried on half as many rows as any, at least, and that
        the model has read on all of them, where there are such. The first that was tried where none was tried on enough rows to be
        preferred to it."""
        read = [trial for trial in self.tried if not self.refused(trial)] or self.tried
        most = max(map(self.seen, read))
        if most < _FEWEST:
            return read[0]
        field = [trial for trial in read if 2 * self.seen(trial) >= most]
        return self.ranked(field, min(map(self.seen, field)))[0]

    def _better_half(self, ranked: list[Trial], count: int) -> list[Trial]:
        kept = ranked[: math.ceil(len(ranked) / 2)]
        if count < _FEWEST:
            return kept
        return kept[:1] + [trial for trial in kept[1:] if self.difference(trial, kept[0], count)[2] >= 0]

    def affordable(self, field: Sequence[Trial], calls: int) -> int:
        """The most rows on which all of ``field`` can be tried with ``calls``."""
        low, high = 0, len(self._rows)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if sum(max(0, middle - self.seen(one)) for one in field) <= calls else (low, middle - 1)
        return low


def _rounds(count: int) -> int:
    """Rounds after which one of so many is left."""
    return max(1, math.ceil(math.log2(count)))
