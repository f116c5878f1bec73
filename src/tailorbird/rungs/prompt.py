"""The rung ``prompt``: an instruction, with or without demonstrations. Nothing is trained.

In: a ``RungContext``. Out: a candidate that is a prompt. Must not know: training; dev and test rows, which are never read here.

Demonstrations are chosen by a few seeded draws, each scored on rows held out of train: which rows are shown, and in which order, moves a
small model's accuracy by tens of points (Zhao 2021, arXiv 2102.09690; Lu 2022, arXiv 2104.08786).
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from tailorbird.domain.dataset import Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Demonstration, PromptSpec, Sampling
from tailorbird.foundations.canonical import digest_of
from tailorbird.foundations.overlap import token_f1
from tailorbird.foundations.prompting import messages_for
from tailorbird.ports.engine import Engine
from tailorbird.rungs.context import Made, RungContext
from tailorbird.rungs.holding_out import hold_out

#: Sets of demonstrations that are tried, and held-out rows that each is scored on, at most.
DRAWS, SCORED = 3, 48
#: Texts longer than this share of all texts are not shown: they would fill the context.
_SHOWN_LENGTHS = 0.95


def make_prompt(context: RungContext) -> Made:
    """Zero-shot, or few-shot where the plan has shots. Raises what the engine raises."""
    started = time.perf_counter()
    prompt = PromptSpec(
        instruction=context.objective.task.instruction,
        labels=context.labels,
        label_sets=context.label_sets,
        list_labels=context.objective.task.kind is TaskKind.CLASSIFY,
    )
    if context.plan.shots:
        prompt = _with_demonstrations(context, prompt)
    candidate = Candidate(
        rung=RungKind.PROMPT,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        seed=context.objective.seed,
    )
    return Made(candidate, time.perf_counter() - started)


def _with_demonstrations(context: RungContext, prompt: PromptSpec) -> PromptSpec:
    """The best of a few drawn sets; of sets that score alike, the first."""
    shown_from, held_out = hold_out(context.train, context.objective.seed)
    judged_on = held_out[:SCORED]
    best, best_score = prompt, float("-inf")
    for draw in range(DRAWS):
        demonstrations = draw_demonstrations(shown_from, context.plan.shots, context.objective.seed + draw)
        tried = prompt.model_copy(update={"demonstrations": demonstrations})
        score = _score(context, tried, judged_on)
        context.progress(f"demonstrations, set {draw + 1} of {DRAWS}: {score:.3f} on {len(judged_on)} held-out training rows")
        if score > best_score:
            best, best_score = tried, score
    return best


def draw_demonstrations(rows: Sequence[Row], shots: int, seed: int) -> tuple[Demonstration, ...]:
    """``shots`` rows in random order, spread evenly over their targets as far as there are rows: one each before any has two."""
    generator = random.Random(seed)
    longest = sorted(len(row.text) for row in rows)[int(_SHOWN_LENGTHS * (len(rows) - 1))]
    by_target: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if len(row.text) <= longest:
            by_target[row.target].append(row)
    for members in by_target.values():
        generator.shuffle(members)
    targets = sorted(by_target)
    generator.shuffle(targets)
    rounds = [members[depth] for depth in range(shots) for t in targets if depth < len(members := by_target[t])]
    chosen = rounds[:shots]
    generator.shuffle(chosen)
    return tuple(Demonstration(row_id=row.id, text=row.text, target=row.target) for row in chosen)


def _score(context: RungContext, prompt: PromptSpec, rows: Sequence[Row]) -> float:
    """How well ``prompt`` answers ``rows``: mean log-probability of the target (classify, nats), or mean overlap with it (generate)."""
    servable = Servable(
        id=digest_of(prompt),
        tenant=context.objective.tenant,
        task=context.objective.task.kind,
        base=str(context.base_folder),
        adapter=None,
        weights=None,
        prompt=prompt,
    )
    engine = context.engine()
    engine.load(servable)
    try:
        return fmean(_scores(engine, servable, rows))
    finally:
        engine.unload(servable.id)


def _scores(engine: Engine, servable: Servable, rows: Sequence[Row]) -> list[float]:
    prompts = [messages_for(servable.prompt, row.text) for row in rows]
    if servable.task is TaskKind.CLASSIFY:
        place = {answer: i for i, answer in enumerate(servable.prompt.answers)}
        found = engine.score(servable.id, prompts, servable.prompt.answers)
        return [one.log_probabilities[place[row.target]] for row, one in zip(rows, found, strict=True)]
    answers = engine.generate(servable.id, prompts, Sampling())
    return [token_f1(answer.text, row.target) for row, answer in zip(rows, answers, strict=True)]
