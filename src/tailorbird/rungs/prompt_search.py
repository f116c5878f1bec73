"""Journal of answers: what an engine answered, kept in a folder, so that a kill repeats at most one batch.

Answers of the base model to trials of a prompt, label scores or text, and what each scores.

Trials of prompts on rows held out of train, in pairs and within a budget of calls: scores, and successive halving by them.

Every prompt is tried on the rows in one order, so that any two share the rows of the one that was tried on fewer. Halving spends the calls
where they tell: all prompts on few rows, the better half on more, and so on (Karnin et al. 2013; Jamieson & Talwalkar 2016, arXiv
1502.07943).

Rung ``prompt-search``: demonstrations are searched on rows held out of train, under a budget of calls.

The search begins with the prompt that few-shot begins with. Sets of demonstrations come first, then changes of the best set (decision
0106). All that it decides by is train: dev measures the winner alone.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailorbird.chat.conversations import as_line, shown_answer
from tailorbird.chat.prompts import messages_for_row
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.sealed_stream import seal_bytes, unseal_bytes
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import SEARCHED_SHOTS, SEARCHED_SHOTS_WITHOUT_LABELS, Message, PromptSearch, PromptSpec, Sampling, TriedPrompt
from tailorbird.domain.value import Digest
from tailorbird.evaluation.json_answers import field_score, same_objects
from tailorbird.rungs.context import RungContext, RungResult, candidate_of, hold_out
from tailorbird.rungs.label_thresholds import thresholds_on, trial_servable
from tailorbird.rungs.prompt import changed_sets, content_free_priors, draw_demonstrations, like_the_worst, prompt_of, typical_set
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.system.files import flush, private_folder
from tailorbird.text.label_rules import without_priors
from tailorbird.text.words import chrf, normalise, rouge_l, token_f1

_CONTEXT = "answer journal, line"


class AnswerJournal:
    """Answers by key, one line of the file a batch. ``origin`` names what they are from: a journal of another origin is begun anew, and
    one that ends in half a line, or in a line that was changed, goes on before it. ``seal_key`` (32 bytes in hexadecimal digits) encrypts
    each line for its place; empty: they are in the clear."""

    def __init__(self, path: Path, origin: Digest, seal_key: str = "") -> None:
        self._path, self._key = path, bytes.fromhex(seal_key)
        self._lines, self._answers = 0, dict[str, Any]()
        private_folder(path.parent)
        whole = self._read(origin)
        with path.open("ab") as file:
            file.truncate(whole)
        if not self._lines:
            self._append({"origin": origin})

    def get(self, key: str) -> Any | None:
        """The answer under ``key``, as it was put; None where there is none."""
        return self._answers.get(key)

    def put(self, answers: Mapping[str, Any]) -> None:
        """Adds a batch of answers, JSON values, and returns once it is on the disk. Raises OSError."""
        self._append(dict(answers))
        self._answers |= answers

    def _read(self, origin: Digest) -> int:
        """Takes in the lines that are whole; how many bytes they have."""
        whole = 0
        for line in self._path.read_bytes().splitlines(keepends=True) if self._path.is_file() else ():
            found = self._opened(line)
            if found is None or (not self._lines and found != {"origin": origin}):
                break
            if self._lines:
                self._answers |= found
            self._lines += 1
            whole += len(line)
        return whole

    def _opened(self, line: bytes) -> dict[str, Any] | None:
        if not line.endswith(b"\n"):
            return None
        try:
            plain = unseal_bytes(base64.b64decode(line), self._key, self._place()) if self._key else line
            found = json.loads(plain)
        except (ValueError, Corrupt):
            return None
        return found if isinstance(found, dict) else None

    def _append(self, told: Mapping[str, Any]) -> None:
        plain = json.dumps(told).encode()
        line = base64.b64encode(seal_bytes(plain, self._key, self._place())) if self._key else plain
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            flush(file)
        self._lines += 1

    def _place(self) -> bytes:
        return f"{_CONTEXT} {self._lines}".encode()


Floats = NDArray[np.float64]
#: The answer to each prompt, a JSON value.
AnswerPrompts = Callable[[Sequence[Sequence[Message]]], list[Any]]

#: Rows asked for at a time, and lost at most by a kill.
BATCH = 16
#: Tokens of an answer, at most: as many as where a candidate is measured.
_MOST_TOKENS = 256


class TrialAnswers(Protocol):
    """Answers of the base model to rows behind prompts, and their score in ``metric``. ``probable``: they are log-probabilities of
    ``prompt.answers`` (nats); else what was written."""

    metric: str
    probable: bool

    def asked_behind(self, prompt: PromptSpec) -> AbstractContextManager[AnswerPrompts]:
        """What answers behind ``prompt``. Raises what the model raises."""

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """The score in [0, 1] of each row. ``priors`` are taken off probabilities; None: what the prompt makes the model prefer on these
        rows."""


def base_answers(context: RungContext) -> TrialAnswers:
    """Those of the base model: probabilities of labels (classify), or text (generate)."""
    return LabelProbabilities(context) if context.objective.task.kind is TaskKind.CLASSIFY else GeneratedTexts(context)


class LabelProbabilities:
    """Implements ``TrialAnswers`` by the probability of the right labels, less what the prompt makes the model prefer."""

    metric, probable = "probability of the right labels", True

    def __init__(self, context: RungContext) -> None:
        self._context = context

    @contextmanager
    def asked_behind(self, prompt: PromptSpec) -> Iterator[AnswerPrompts]:
        """Scores ``prompt.answers``."""
        engine, servable = self._context.engine(), trial_servable(self._context, prompt)

        def scored(prompts: Sequence[Sequence[Message]]) -> list[Any]:
            return [list(one.log_probabilities) for one in engine.score(servable.id, prompts, prompt.answers)]

        engine.load(servable)
        try:
            yield scored
        finally:
            engine.unload(servable.id)

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """Probabilities of the rows' answers."""
        taken = preference(np.array(answers)) if priors is None else priors
        prompt = prompt.model_copy(update={"priors": taken})
        place = {answer: at for at, answer in enumerate(prompt.answers)}
        adjusted = [without_priors(prompt, nats)[place[row.answer]] for row, nats in zip(rows, answers, strict=True)]
        scores: Floats = np.clip(np.exp(np.array(adjusted, dtype=float)), 0.0, 1.0)
        return scores


def preference(nats_NK: Floats) -> tuple[float, ...]:
    """What rows make the model prefer, log-probabilities (nats) in the order of the K answers: the mean of what it gives them, with one
    more row that prefers nothing for each answer (batch calibration, Zhou et al. 2024, arXiv 2309.17249)."""
    rows, answers = nats_NK.shape
    return tuple(float(nats) for nats in np.log((np.exp(nats_NK).sum(axis=0) + 1) / (rows + answers)))


class GeneratedTexts:
    """Implements ``TrialAnswers`` by what the base model writes: scored by its overlap with the row's answer."""

    probable = False

    def __init__(self, context: RungContext) -> None:
        # The metric in which the objective compares, or its first KPI that is one; token_f1 where there is none.
        objective = context.objective
        named = (objective.compare_on or "", *(kpi.metric for kpi in objective.kpis))
        self.metric, form = next((metric for metric in named if metric in _OVERLAPS), "token_f1"), context.objective.task.format
        self._of_objects = self.metric == "exact_match" and form is not None and form.json_keys is not None
        # Tokens that an answer may take: half as many again as the longest of train, so that one which does not end costs no
        # more.
        longest = sorted({shown_answer(row.answer) for row in context.shown}, key=lambda answer: (-len(answer), answer))[:8]
        counts = context.engine().count_tokens(context.base_folder, [[Message(role="user", content=answer)] for answer in longest])
        self._context, self._sampling = context, Sampling(max_tokens=min(_MOST_TOKENS, 3 * max(counts) // 2))

    @contextmanager
    def asked_behind(self, prompt: PromptSpec) -> Iterator[AnswerPrompts]:
        """Generates."""
        engine, servable = self._context.engine(), trial_servable(self._context, prompt)

        def written(prompts: Sequence[Sequence[Message]]) -> list[Any]:
            found = engine.generate(servable.id, prompts, self._sampling)
            return [as_line(Message(role="assistant", content=answer.text, tool_calls=answer.tool_calls)) for answer in found]

        engine.load(servable)
        try:
            yield written
        finally:
            engine.unload(servable.id)

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """Overlaps in the metric."""
        del prompt, priors
        overlap = _same_object_or_nearly if self._of_objects else _OVERLAPS[self.metric]
        return np.array([overlap(answer, shown_answer(row.answer)) for row, answer in zip(rows, answers, strict=True)])


def _nearly_same(answer: str, target: str) -> float:
    """Right or wrong, and half of it by how much of the answer is right: on few rows most prompts have as many that are wholly right."""
    return (float(normalise(answer) == normalise(target)) + chrf(answer, target)) / 2


def _same_object_or_nearly(answer: str, target: str) -> float:
    """As ``_nearly_same``, of answers that are to be JSON objects: one that says the same is right, however it is written, and one that
    says something else is not."""
    same = same_objects(answer, target)
    if same is None:
        return _nearly_same(answer, target)
    return 1.0 if same else chrf(answer, target) / 2


def _of_fields(answer: str, target: str) -> float:
    """The score of its fields; of a target that is no object, as ``_nearly_same``."""
    found = field_score(answer, target)
    return _nearly_same(answer, target) if found is None else found


#: Metrics of a text by which prompts that generate can be compared: those that an objective may compare by.
_OVERLAPS: dict[str, Callable[[str, str], float]] = {
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "chrf": chrf,
    "exact_match": _nearly_same,
    "field_score": _of_fields,
}


_CONFIDENCE = 0.95
#: Rows of which an interval is asked, and on which a prompt is tried before it is dropped, at least.
_FEWEST = 8


@dataclass(frozen=True)
class Trial:
    """A prompt to try, and where it is from."""

    prompt: PromptSpec
    origin: str

    @property
    def name(self) -> Digest:
        """The prompt's digest."""
        return digest_of(self.prompt)

    @property
    def size(self) -> int:
        """Characters that it puts before every text."""
        shown = sum(len(one.text) + len(one.target) for one in self.prompt.demonstrations)
        return shown + (sum(map(len, self.prompt.labels)) if self.prompt.list_labels else 0)


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
        """Calls that were made: each row that was answered behind a prompt counts once, now or before a kill."""
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
                for start in range(0, len(asked), BATCH):
                    some = asked[start : start + BATCH]
                    found = answered([messages_for_row(prompt, row.text) for _, row in some])
                    came = {key: answer for (key, _), answer in zip(some, found, strict=True)}
                    self._journal.put(came)
                    self._asked.update(came)
                    self._told(self.calls, self.budget)
        return [self._journal.get(key) for key in keys]

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
            except InvalidInput as error:  # whatever the engine says of an input is of the prompt
                self._unread = error
                self._refused.add(trial.name)
                self.dropped["not read by the model"] += 1
        return kept

    def ranked(self, trials: Sequence[Trial], count: int) -> list[Trial]:
        """Best first, by the mean on the first ``count`` rows; of those that are alike, the shorter prompt."""
        return sorted(trials, key=lambda trial: (-round(float(self.scores(trial, count).mean()), 9), trial.size, trial.name))

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


#: Share of the training rows that prompts are tried on: nothing learns from the others, they are only shown.
JUDGED = 0.5
#: Shares of the calls that go to sets of demonstrations and to changes of the best set; the rest compares the best.
_SHARES = (0.50, 0.25)
#: Prompts that are compared at last.
_FINALISTS = 3
#: Version of the search: a journal of another one is not gone on with.
_VERSION = 2


def make_prompt_search(context: RungContext) -> RungResult:
    """The best prompt that the budget of calls finds, and the log of the search. Raises what the engine raises."""
    started, objective = time.perf_counter(), context.objective
    # Everything that the answers rest on beside prompts and rows.
    task = {"task": digest_of(objective.task), "seed": objective.seed, "calls": context.plan.calls}
    made_by = {"base": context.base.digest, "engine": context.engine().fingerprint(), "snapshot": context.snapshot}
    origin = digest_of({"version": _VERSION, **made_by, **task})
    journal = AnswerJournal(context.workspace / "answers.jsonl", origin, context.seal_key)
    with _held(context):
        shown_from, judged = hold_out(context.shown, objective.seed, JUDGED)
        trials = PromptTrials(base_answers(context), judged, journal, context.plan.calls, context.count)
        search = _SearchStages(context, shown_from, trials)
        found = search.best()
        log = _log(context, trials, search.reference, found)
        context.progress(f"prompt search: {log.sentence}")
        prompt = _calibrated(context, trials, found)
    held = trials.rows[: trials.seen(found)]
    prompt = thresholds_on(context, prompt, held, trials.answers(found.prompt, held))
    return RungResult(candidate_of(context, prompt), time.perf_counter() - started, search=log)


@contextmanager
def _held(context: RungContext) -> Iterator[None]:
    """Keeps the base model in memory while prompts come and go on it."""
    engine, servable = context.engine(), trial_servable(context, prompt_of(context))
    servable = servable.model_copy(update={"id": digest_of({"held": servable.id})})
    engine.load(servable)
    try:
        yield
    finally:
        engine.unload(servable.id)


class _SearchStages:
    """The stages of a search, and the comparison of what they found."""

    def __init__(self, context: RungContext, shown_from: Sequence[Row], trials: PromptTrials) -> None:
        self._context, self._pool, self._trials = context, shown_from, trials
        times = SEARCHED_SHOTS if context.objective.task.kind is TaskKind.CLASSIFY else SEARCHED_SHOTS_WITHOUT_LABELS
        self._seed, self._usual = context.objective.seed, math.ceil(context.plan.shots / times)
        self._shots = min(context.plan.shots, len(shown_from))
        self.start = Trial(self._shown(draw_demonstrations(shown_from, self._usual, self._seed) if self._shots else ()), "start")

    @property
    def reference(self) -> Trial:
        """The prompt that the others are compared with: the one that the search began with, or the first that the model read."""
        return self.start if self._trials.seen(self.start) else self._trials.tried[0]

    def best(self) -> Trial:
        """The best prompt that was found."""
        trials, (sets, changes) = self._trials, _SHARES
        ahead = trials.halve([self.start, *self._sets()], int(sets * trials.budget))
        leader, runner_up = ahead[0], ahead[1] if len(ahead) > 1 else self.start
        ahead = trials.halve([leader, *self._changed(leader, runner_up)], int(changes * trials.budget))
        return self._final(distinct([*reversed(ahead[:2]), leader])[:_FINALISTS])

    def _final(self, finalists: list[Trial]) -> Trial:
        """The best of those that did best and of the prompt that the search began with, on as many rows as the calls left pay for."""
        trials, field = self._trials, distinct([self.start, *finalists])
        read = [one for one in field if not trials.refused(one)]
        held = trials.holding(read, trials.affordable(read, trials.left)) or field
        held = [one for one in held if trials.seen(one)]
        return trials.ranked(held, min(map(trials.seen, held)))[0]

    def _shown(self, demonstrations: Sequence[object], **changes: object) -> PromptSpec:
        return prompt_of(self._context).model_copy(update={"demonstrations": tuple(demonstrations), **changes})

    def _sets(self) -> Iterator[Trial]:
        """Other demonstrations, the likeliest first, as few calls try the first alone: as many as there is
        room for, so that most answers are shown; half as many; other draws, none, typical rows; and without the list of labels."""
        if not self._shots:
            return
        for shots in (self._shots, (self._shots + 1) // 2):
            yield Trial(self._shown(typical_set(self._pool, shots, self._seed)), f"typical rows, {shots}")
            yield Trial(self._shown(draw_demonstrations(self._pool, shots, self._seed)), f"drawn, {shots}")
        if self._context.objective.task.kind is TaskKind.CLASSIFY:
            yield Trial(self._shown(typical_set(self._pool, self._shots, self._seed), list_labels=False), "labels not listed")
        yield Trial(self._shown(typical_set(self._pool, self._usual, self._seed)), f"typical rows, {self._usual}")
        yield Trial(self._shown(()), "no demonstrations")
        yield Trial(self._shown(draw_demonstrations(self._pool, self._usual, self._seed + 1)), f"drawn, {self._usual}")

    def _changed(self, leader: Trial, runner_up: Trial) -> Iterator[Trial]:
        """Near the leader: other demonstrations."""
        shown = leader.prompt.demonstrations
        if not shown:
            return
        for origin, changed in changed_sets(shown, runner_up.prompt.demonstrations, self._pool, self._wanted(leader), self._seed):
            yield Trial(leader.prompt.model_copy(update={"demonstrations": changed}), origin)

    def _wanted(self, leader: Trial) -> list[Row]:
        """Rows to show for what the leader does worst: of the answers that do worst (classify), or like the texts that do (generate)."""
        count = self._trials.seen(leader)
        scored = list(zip(self._trials.rows, map(float, self._trials.scores(leader, count)), strict=False)) if count else []
        if self._context.objective.task.kind is not TaskKind.CLASSIFY:
            return like_the_worst(self._pool, scored)
        found: dict[str, list[float]] = defaultdict(list)
        for row, score in scored:
            found[row.answer].append(score)
        weak = {answer: fmean(scores) for answer, scores in found.items()}
        return sorted((row for row in self._pool if row.answer in weak), key=lambda row: (weak[row.answer], row.id))


def _calibrated(context: RungContext, trials: PromptTrials, found: Trial) -> PromptSpec:
    """The prompt with what the model prefers behind it: as measured on texts without content or on the rows held out, where taking that off
    helps."""
    if not trials.probable:
        return found.prompt
    count = trials.seen(found)
    options = {
        "as it is": (),
        "rows held out": trials.preference(found),
        "texts without content": content_free_priors(context, found.prompt),
    }
    scores = {name: float(trials.scores(found, count, priors).mean()) for name, priors in options.items()}
    best = max(scores, key=scores.__getitem__)
    told = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    context.progress(f"what the model prefers, taken off: {told}, on {count} held-out rows")
    return found.prompt.model_copy(update={"priors": options[best]})


def _log(context: RungContext, trials: PromptTrials, start: Trial, found: Trial) -> PromptSearch:
    count = min(trials.seen(start), trials.seen(found))
    difference, low, high = trials.difference(found, start, count)
    return PromptSearch(
        metric=trials.metric,
        seed=context.objective.seed,
        budget=trials.budget,
        calls=trials.calls,
        rows=len(trials.rows),
        dropped=dict(sorted(trials.dropped.items())),
        start=start.name,
        chosen=found.name,
        compared=count,
        difference=difference,
        low=low,
        high=high,
        tried=tuple(_tried(trials, trial, start) for trial in trials.tried),
    )


def _tried(trials: PromptTrials, trial: Trial, start: Trial) -> TriedPrompt:
    both = min(trials.seen(trial), trials.seen(start))
    difference, low, high = trials.difference(trial, start, both)
    return TriedPrompt(
        prompt=trial.name,
        demonstrations=tuple(one.row_id for one in trial.prompt.demonstrations),
        list_labels=trial.prompt.list_labels,
        origin=trial.origin,
        rows=trials.seen(trial),
        score=float(trials.scores(trial, trials.seen(trial)).mean()),
        difference=difference,
        low=low,
        high=high,
    )
