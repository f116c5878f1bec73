"""Rung ``prompt-search``: instruction and demonstrations are searched on rows held out of train, under a budget of calls.

The search begins with the prompt that few-shot begins with. Sets of demonstrations come first, for they move a small model most; then
instructions, with the best of them; then changes of what did best, with instructions written in view of its mistakes (decision 0106). All
that it decides by is train: dev measures the winner alone.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import (
    PROPOSALS_CORRECTED,
    PROPOSALS_WRITTEN,
    ROWS_SHOWN,
    SEARCHED_SHOTS,
    SEARCHED_SHOTS_WITHOUT_LABELS,
    PromptSearch,
    PromptSpec,
    TriedPrompt,
)
from tailorbird.domain.value import Digest
from tailorbird.rungs.answer_journal import AnswerJournal
from tailorbird.rungs.context import RungContext, RungResult, hold_out
from tailorbird.rungs.demonstration_sets import changed_sets, like_the_worst, typical_set
from tailorbird.rungs.label_thresholds import thresholds_on, trial_servable
from tailorbird.rungs.prompt import content_free_priors, draw_demonstrations, prompt_of
from tailorbird.rungs.prompt_proposals import Mistake, Proposals, ProposedInstruction
from tailorbird.rungs.prompt_trials import PromptTrials, Trial, distinct
from tailorbird.rungs.trial_answers import TrialAnswers, base_answers

#: Share of the training rows that prompts are tried on: nothing learns from the others, they are only shown.
JUDGED = 0.5
#: Shares of the calls that go to sets of demonstrations, to instructions, and to changes of what did best; the rest compares the best.
_SHARES = (0.35, 0.20, 0.20)
#: Rows that are looked at for mistakes.
_LOOKED_AT = 16
#: Prompts that are compared at last.
_FINALISTS = 3
#: Version of the search: a journal of another one is not gone on with.
_VERSION = 2


def make_prompt_search(context: RungContext) -> RungResult:
    """The best prompt that the budget of calls finds, and the log of the search. Raises what the engine raises."""
    started = time.perf_counter()
    journal = AnswerJournal(context.workspace / "answers.jsonl", origin_of(context, context.engine().fingerprint()), context.seal_key)
    with _held(context):
        searched = search_prompt(context, base_answers(context), journal)
        prompt = _calibrated(context, searched.trials, searched.found)
    found, trials = searched.found, searched.trials
    held = trials.rows[: trials.seen(found)]
    prompt = thresholds_on(context, prompt, held, trials.answers(found.prompt, held))
    candidate = Candidate(
        rung=RungKind.PROMPT_SEARCH,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        seed=context.objective.seed,
        proposed_from=searched.proposed_from,
        proposer=searched.proposer,
    )
    return RungResult(candidate, time.perf_counter() - started, search=searched.log)


@dataclass(frozen=True)
class SearchedPrompt:
    """What a search found, what it asked for that, and its log. ``proposed_from`` are the training rows that were shown to who wrote the
    instruction, ``proposer`` the hosted model that did (None: the base, a rule, or the objective)."""

    found: Trial
    trials: PromptTrials
    log: PromptSearch
    proposer: HostedModel | None

    @property
    def proposed_from(self) -> tuple[str, ...]:
        """Ids of rows, sorted."""
        return tuple(sorted(set(self.found.proposed_from)))


def search_prompt(context: RungContext, answering: TrialAnswers, journal: AnswerJournal, *, ends_early: bool = False) -> SearchedPrompt:
    """Searches with ``answering`` as the model that answers. ``ends_early``: where the money for it is used up, the best so far is what
    was found, and the log says so. Raises what asking raises."""
    shown_from, judged = hold_out(context.shown, context.objective.seed, JUDGED)
    trials = PromptTrials(answering, judged, journal, context.plan.calls, context.count)
    search = _SearchStages(context, shown_from, trials, Proposals(context, journal, trials.count))
    ended = ""
    try:
        found = search.best()
    except Exhausted as error:
        if not ends_early or error.error_code != "budget_spent" or not trials.tried:
            raise
        found, ended = trials.best_so_far(), "the money that the budget leaves for it was used up"
    log = _log(context, trials, search.proposals, (search.reference, found)).model_copy(update={"ended": ended})
    context.progress(f"prompt search: {log.sentence}")
    return SearchedPrompt(found, trials, log, search.proposals.proposer_of(found.prompt.instruction))


def origin_of(context: RungContext, answers: str) -> Digest:
    """Everything that the answers of a search rest on beside prompts and rows. ``answers`` is who gives them."""
    objective = context.objective
    if (proposer := context.plan.proposer) is not None and context.proposer is not None:
        asked = {"url": proposer.url, "model": context.proposer.model}
        answers = digest_of({"engine": answers, "proposer": asked})
    task = {"task": digest_of(objective.task), "seed": objective.seed, "calls": context.plan.calls}
    return digest_of({"version": _VERSION, "base": context.base.digest, "engine": answers, "snapshot": context.snapshot, **task})


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
    """The three stages of a search, and the comparison of what they found."""

    def __init__(self, context: RungContext, shown_from: Sequence[Row], trials: PromptTrials, proposals: Proposals) -> None:
        self._context, self._pool, self._trials = context, shown_from, trials
        self.proposals = proposals
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
        trials, (sets, instructions, changes) = self._trials, _SHARES
        ahead = trials.halve([self.start, *self._sets()], int(sets * trials.budget))
        found = [ahead[0]]
        ahead = trials.halve([found[-1], *self._instructed(found[-1], self._written())], int(instructions * trials.budget))
        runner_up = found[-1] if ahead[0] is not found[-1] else (ahead[1] if len(ahead) > 1 else self.start)
        found.append(ahead[0])
        ahead = trials.halve([found[-1], *self._changed(found[-1], runner_up)], int(changes * trials.budget))
        found += ahead[:2]
        return self._final(distinct(list(reversed(found)))[:_FINALISTS])

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
        """The objective's instruction with other demonstrations, the likeliest first, as few calls try the first alone: as many as there is
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

    def _written(self) -> list[ProposedInstruction]:
        """By turns one by rule and one by a model, to which a tenth of the calls goes at most."""
        ruled = self.proposals.by_rule()
        written = self.proposals.written(self._pool[:ROWS_SHOWN], min(PROPOSALS_WRITTEN, self._trials.budget // 10))
        return [one for pair in zip_longest(written, ruled) for one in pair if one is not None]

    @staticmethod
    def _instructed(leader: Trial, proposals: Sequence[ProposedInstruction]) -> Iterator[Trial]:
        for one in proposals:
            prompt = leader.prompt.model_copy(update={"instruction": one.instruction})
            yield Trial(prompt, one.origin, (*leader.proposed_from, *one.proposed_from))

    def _changed(self, leader: Trial, runner_up: Trial) -> Iterator[Trial]:
        """Near the leader: other demonstrations, and instructions written in view of what it got wrong."""
        yield from self._instructed(leader, self._corrected(leader))
        shown = leader.prompt.demonstrations
        if not shown:
            return
        for origin, changed in changed_sets(shown, runner_up.prompt.demonstrations, self._pool, self._wanted(leader), self._seed):
            yield Trial(leader.prompt.model_copy(update={"demonstrations": changed}), origin, leader.proposed_from)

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

    def _corrected(self, leader: Trial) -> list[ProposedInstruction]:
        """Mistakes are looked for among rows that nothing is scored on, so that no instruction is written in view of what judges it."""
        if self._trials.budget < 10 * (_LOOKED_AT + PROPOSALS_CORRECTED):
            return []
        shown = {one.row_id for one in leader.prompt.demonstrations}
        rows = [row for row in self._pool if row.id not in shown][:_LOOKED_AT]
        mistakes = [Mistake(row, said) for row, said in self._trials.mistakes(leader, rows)]
        return self.proposals.corrected(leader.prompt.instruction, mistakes, PROPOSALS_CORRECTED)


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


def _log(context: RungContext, trials: PromptTrials, proposals: Proposals, ends: tuple[Trial, Trial]) -> PromptSearch:
    start, found = ends
    count = min(trials.seen(start), trials.seen(found))
    difference, low, high = trials.difference(found, start, count)
    return PromptSearch(
        metric=trials.metric,
        seed=context.objective.seed,
        budget=trials.budget,
        calls=trials.calls,
        proposals=proposals.calls,
        rows=len(trials.rows),
        dropped=dict(sorted((proposals.dropped + trials.dropped).items())),
        start=start.name,
        chosen=found.name,
        compared=count,
        difference=difference,
        low=low,
        high=high,
        tried=tuple(_tried(trials, trial, start) for trial in trials.tried),
        proposer=proposals.proposer,
    )


def _tried(trials: PromptTrials, trial: Trial, start: Trial) -> TriedPrompt:
    both = min(trials.seen(trial), trials.seen(start))
    difference, low, high = trials.difference(trial, start, both)
    return TriedPrompt(
        prompt=trial.name,
        instruction=trial.prompt.instruction,
        demonstrations=tuple(one.row_id for one in trial.prompt.demonstrations),
        list_labels=trial.prompt.list_labels,
        origin=trial.origin,
        rows=trials.seen(trial),
        score=float(trials.scores(trial, trials.seen(trial)).mean()),
        difference=difference,
        low=low,
        high=high,
        proposed_from=trial.proposed_from,
    )
