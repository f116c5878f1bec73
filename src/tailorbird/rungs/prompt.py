"""Prompt rungs, which train nothing: ``prompt`` (zero- or few-shot), ``nearest`` (similar training rows as demonstrations), ``grounding``
(passages of the tenant's documents).

Demonstrations are chosen by a few seeded draws, each scored on rows held out of train: which rows are shown, and in which order, moves a
small model's accuracy by tens of points (Zhao 2021, arXiv 2102.09690; Lu 2022, arXiv 2104.08786). Rows that are near the text teach a model
more than rows that are the same for every text (Liu et al. 2022, arXiv 2101.06804).
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from tailorbird.domain.dataset import Row
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Demonstration, PromptSpec, Retrieval
from tailorbird.rungs.context import RungContext, RungResult, hold_out
from tailorbird.rungs.indexes import as_examples, as_passages, retrieval_of
from tailorbird.rungs.label_thresholds import held_out_score, trial_servable, with_thresholds
from tailorbird.text.prompt_rendering import messages_for

#: Sets of demonstrations that are tried, and held-out rows that each is scored on, at most.
DRAWS, SCORED = 3, 48
#: Texts longer than this share of all texts are not shown: they would fill the context.
_SHOWN_LENGTHS = 0.95
#: Texts that say nothing.
_NO_CONTENT = ("N/A", "[MASK]", "...")


def make_prompt(context: RungContext) -> RungResult:
    """Zero-shot, or few-shot where the plan has shots. Raises what the engine raises."""
    started = time.perf_counter()
    prompt = prompt_of(context)
    shown_from, held_out = hold_out(context.shown, context.objective.seed)
    judged_on = held_out[:SCORED]
    if context.plan.shots:
        prompt = _with_demonstrations(context, prompt, shown_from, judged_on)
    prompt = without_preference(context, prompt, judged_on)
    prompt = with_thresholds(context, trial_servable(context, prompt), held_out)
    candidate = Candidate(
        rung=RungKind.PROMPT,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        seed=context.objective.seed,
    )
    return RungResult(candidate, time.perf_counter() - started)


def prompt_of(context: RungContext) -> PromptSpec:
    """The objective's instruction, with its labels listed where it classifies."""
    return PromptSpec(
        instruction=context.objective.task.instruction,
        labels=context.labels,
        label_sets=context.label_sets,
        list_labels=context.objective.task.kind is TaskKind.CLASSIFY,
        thinking=context.objective.task.thinking,
    )


def without_preference(context: RungContext, prompt: PromptSpec, judged_on: Sequence[Row]) -> PromptSpec:
    """The prompt with what the model prefers before it has read anything, where taking that off helps on rows held out of train.

    The preference is the mean over texts without content (Zhao 2021, arXiv 2102.09690, §5).
    """
    if context.objective.task.kind is not TaskKind.CLASSIFY or not judged_on:
        return prompt
    calibrated = prompt.model_copy(update={"priors": content_free_priors(context, prompt)})
    plain, adjusted = held_out_score(context, prompt, judged_on), held_out_score(context, calibrated, judged_on)
    context.progress(f"on {len(judged_on)} held-out rows {plain:.3f} as it is, {adjusted:.3f} without the model's preference")
    return calibrated if adjusted > plain else prompt


def content_free_priors(context: RungContext, prompt: PromptSpec) -> tuple[float, ...]:
    """What the model prefers behind the prompt for texts without content, log-probabilities (nats) in the order of ``prompt.answers``."""
    servable, engine = trial_servable(context, prompt), context.engine()
    engine.load(servable)
    try:
        found = engine.score(servable.id, [messages_for(prompt, text) for text in _NO_CONTENT], prompt.answers)
    finally:
        engine.unload(servable.id)
    means = [fmean(math.exp(one.log_probabilities[place]) for one in found) for place in range(len(prompt.answers))]
    return tuple(math.log(max(mean, 1e-12)) for mean in means)


def _with_demonstrations(context: RungContext, prompt: PromptSpec, shown_from: Sequence[Row], judged_on: Sequence[Row]) -> PromptSpec:
    """The best of a few drawn sets; of sets that score alike, the first."""
    best, best_score = prompt, float("-inf")
    for draw in range(DRAWS):
        demonstrations = draw_demonstrations(shown_from, context.plan.shots, context.objective.seed + draw)
        tried = prompt.model_copy(update={"demonstrations": demonstrations})
        score = held_out_score(context, tried, judged_on)
        context.progress(f"demonstrations, set {draw + 1} of {DRAWS}: {score:.3f} on {len(judged_on)} held-out training rows")
        if score > best_score:
            best, best_score = tried, score
    return best


def longest_shown(rows: Sequence[Row]) -> int:
    """Characters of the longest text that is shown."""
    return sorted(len(row.text) for row in rows)[int(_SHOWN_LENGTHS * (len(rows) - 1))]


def draw_demonstrations(rows: Sequence[Row], shots: int, seed: int) -> tuple[Demonstration, ...]:
    """``shots`` rows in random order, spread evenly over their targets as far as there are rows: one each before any has two."""
    generator = random.Random(seed)
    longest = longest_shown(rows)
    by_target: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if len(row.text) <= longest:
            by_target[row.answer].append(row)
    for members in by_target.values():
        generator.shuffle(members)
    targets = sorted(by_target)
    generator.shuffle(targets)
    rounds = [members[depth] for depth in range(shots) for t in targets if depth < len(members := by_target[t])]
    chosen = rounds[:shots]
    generator.shuffle(chosen)
    return tuple(Demonstration(row_id=row.id, text=row.text, target=row.answer) for row in chosen)


def make_nearest(context: RungContext) -> RungResult:
    """Indexes the training rows. Raises what the encoder raises."""
    started = time.perf_counter()
    return _retrieval_result(context, retrieval_of(context, "examples", as_examples(context.shown)), started)


def make_grounding(context: RungContext) -> RungResult:
    """Indexes the tenant's documents, passage by passage."""
    started = time.perf_counter()
    return _retrieval_result(context, retrieval_of(context, "passages", as_passages(context)), started)


def _retrieval_result(context: RungContext, retrieval: Retrieval, started: float) -> RungResult:
    prompt = prompt_of(context)
    if prompt.label_sets:
        prompt = with_thresholds(context, trial_servable(context, prompt, retrieval), hold_out(context.train, context.objective.seed)[1])
    candidate = Candidate(
        rung=context.plan.rung,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        retrieval=retrieval,
        seed=context.objective.seed,
    )
    return RungResult(candidate, time.perf_counter() - started)
