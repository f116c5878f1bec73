"""Prompt rungs, which train nothing: ``prompt`` (zero- or few-shot), ``nearest`` (similar training rows as demonstrations), ``grounding``
(passages of the tenant's documents).

Demonstrations are chosen by a few seeded draws, each scored on rows held out of train: which rows are shown, and in which order, moves a
small model's accuracy by tens of points (Zhao 2021, arXiv 2102.09690; Lu 2022, arXiv 2104.08786). Rows that are near the text teach a model
more than rows that are the same for every text (Liu et al. 2022, arXiv 2101.06804).

Sets of demonstrations for a prompt's search: drawn, typical of the rows, and changed from a set that does well.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tailorbird.chat.prompts import messages_for
from tailorbird.domain.dataset import Row
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Demonstration, PromptSpec, Retrieval
from tailorbird.rungs.context import RungContext, RungResult, as_examples, as_passages, candidate_of, hold_out, retrieval_of
from tailorbird.rungs.label_thresholds import held_out_score, trial_servable, with_thresholds
from tailorbird.text.search_index import words

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
    held_out = hold_out(context.shown, context.objective.seed)[1]
    if context.plan.shots:
        prompt = with_demonstrations(context, prompt)
    # The prompt with what the model prefers before it has read anything, where taking that off helps on rows held out of
    # train.
    judged_on = held_out[:SCORED]
    if context.objective.task.kind is not TaskKind.CLASSIFY or not judged_on:
        pass
    else:
        calibrated = prompt.model_copy(update={"priors": content_free_priors(context, prompt)})
        plain, adjusted = held_out_score(context, prompt, judged_on), held_out_score(context, calibrated, judged_on)
        context.progress(f"on {len(judged_on)} held-out rows {plain:.3f} as it is, {adjusted:.3f} without the model's preference")
        prompt = calibrated if adjusted > plain else prompt
    prompt = with_thresholds(context, trial_servable(context, prompt), held_out)
    candidate = candidate_of(
        context,
        prompt,
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


def with_demonstrations(context: RungContext, prompt: PromptSpec) -> PromptSpec:
    """The best of a few drawn sets by their score on rows held out; of sets that score alike, the first."""
    shown_from, held_out = hold_out(context.shown, context.objective.seed)
    judged_on = held_out[:SCORED]
    best, best_score = prompt, float("-inf")
    for draw in range(DRAWS):
        demonstrations = draw_demonstrations(shown_from, context.plan.shots, context.objective.seed + draw)
        tried = prompt.model_copy(update={"demonstrations": demonstrations})
        found = held_out_score(context, tried, judged_on)
        context.progress(f"demonstrations, set {draw + 1} of {DRAWS}: {found:.3f} on {len(judged_on)} held-out training rows")
        if found > best_score:
            best, best_score = tried, found
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
    candidate = candidate_of(
        context,
        prompt,
        retrieval=retrieval,
    )
    return RungResult(candidate, time.perf_counter() - started)


#: Rows among which typical ones, and those like others, are looked for.
_POOL = 400

Shown = tuple[Demonstration, ...]


def demonstration_of(row: Row) -> Demonstration:
    """The row as it is shown."""
    return Demonstration(row_id=row.id, text=row.text, target=row.answer)


def typical_set(rows: Sequence[Row], count: int, seed: int) -> Shown:
    """``count`` rows that stand for all: each next one is that which brings the rows nearest to the one shown that is most like them
    (greedy facility location over the cosines of their words), and no answer is shown twice before each was shown once; the most typical
    stands last, next to the text."""
    longest = longest_shown(rows)
    pool = sorted((row for row in rows if len(row.text) <= longest), key=lambda row: row.id)
    generator = random.Random(f"{seed} typical")
    pool = _bounded(pool, generator)
    vectors_NW = _word_vectors(pool)
    likeness_NN = vectors_NW @ vectors_NW.T
    covered_N, chosen, given = np.zeros(len(pool)), list[int](), defaultdict[str, int](int)
    for _ in range(min(count, len(pool))):
        gains_N = np.maximum(likeness_NN, covered_N[:, None]).sum(axis=0) - covered_N.sum()
        left = [at for at in range(len(pool)) if at not in chosen]
        fewest = min(given[pool[at].answer] for at in left)
        best = max((at for at in left if given[pool[at].answer] == fewest), key=lambda at: (gains_N[at], -at))
        chosen.append(best)
        given[pool[best].answer] += 1
        covered_N = np.maximum(covered_N, likeness_NN[:, best])
    return tuple(demonstration_of(pool[at]) for at in reversed(chosen))


def _bounded(pool: list[Row], generator: random.Random) -> list[Row]:
    return generator.sample(pool, _POOL) if len(pool) > _POOL else pool


def _word_vectors(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Vectors of length 1 of the rows' words, each weighed by how few rows have it: (N, W)."""
    bags = [set(words(row.text)) for row in rows]
    places = {word: at for at, word in enumerate(sorted(set().union(*bags)))}
    counts_NW = np.zeros((len(rows), max(1, len(places))))
    for at, bag in enumerate(bags):
        counts_NW[at, [places[word] for word in bag]] = 1.0
    counts_NW *= np.log(len(rows) / np.maximum(1.0, counts_NW.sum(axis=0))) + 1e-6
    norms_N1 = np.linalg.norm(counts_NW, axis=1, keepdims=True)
    scaled_NW: NDArray[np.float64] = counts_NW / np.maximum(norms_N1, 1e-12)
    return scaled_NW


def like_the_worst(rows: Sequence[Row], answered: Sequence[tuple[Row, float]]) -> list[Row]:
    """Those of ``rows`` that are most like what was answered worst, by their words: one for each row of ``answered`` (with its score), in
    the order of the scores, none twice."""
    pool = sorted(rows, key=lambda row: row.id)
    pool = _bounded(pool, random.Random("like the worst"))
    worst = sorted(answered, key=lambda one: (one[1], one[0].id))
    vectors_NW = _word_vectors([*(row for row, _ in worst), *pool])
    shown_PW = vectors_NW[len(worst) :]
    # One row after another: of many rows all pairs would take gigabytes.
    nearest = dict.fromkeys(int((shown_PW @ worst_W).argmax()) for worst_W in vectors_NW[: len(worst)]) if pool else {}
    return [pool[at] for at in nearest]


def changed_sets(shown: Shown, other: Shown, rows: Sequence[Row], wanted: Sequence[Row], seed: int) -> list[tuple[str, Shown]]:
    """Sets near ``shown``, each with a word on how it was made: the first of ``wanted`` in place of a third (rows that stand for what does
    worst); a third of it drawn anew, twice; half of it with half of ``other``; the same in another order."""
    generator = random.Random(f"{seed} changed")
    longest = longest_shown(rows)
    pool = sorted((row for row in rows if len(row.text) <= longest), key=lambda row: row.id)
    drawn = [_exchanged(shown, generator.sample(pool, min(len(pool), len(shown))), generator) for _ in range(2)]
    fitting = [row for row in wanted if len(row.text) <= longest]
    ordered = list(shown)
    generator.shuffle(ordered)
    half = len(shown) // 2
    mixed = list({one.row_id: one for one in (*shown[half:], *other)}.values())[: len(shown)]
    sets = [("for what did worst", _exchanged(shown, fitting, generator)), ("part drawn anew", drawn[0])]
    return [*sets, ("two mixed", tuple(reversed(mixed))), ("another order", tuple(ordered)), ("part drawn anew", drawn[1])]


def _exchanged(shown: Shown, rows: Sequence[Row], generator: random.Random) -> Shown:
    """A third of the set exchanged for the first of ``rows`` that it does not show."""
    known = {one.row_id for one in shown}
    fresh = [demonstration_of(row) for row in rows if row.id not in known][: max(1, len(shown) // 3)]
    changed = list(shown)
    for place, one in zip(generator.sample(range(len(changed)), min(len(fresh), len(changed))), fresh, strict=False):
        changed[place] = one
    return tuple(changed)
