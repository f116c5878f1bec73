"""The rungs that look something up: ``nearest``, the training rows most like a text as demonstrations; ``grounding``, passages of the
tenant's documents. Nothing is trained.

Rows that are near the text teach a model more than rows that are the same for every text (Liu et al. 2022, arXiv 2101.06804).
"""

from __future__ import annotations

import time

from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.retrieval import Retrieval
from tailorbird.rungs.context import RungContext, RungResult
from tailorbird.rungs.indexes import as_examples, as_passages, retrieval_of
from tailorbird.rungs.label_thresholds import with_thresholds
from tailorbird.rungs.prompt_scoring import trial
from tailorbird.rungs.validation_split import hold_out


def make_nearest(context: RungContext) -> RungResult:
    """Indexes the training rows. Raises what the encoder raises."""
    started = time.perf_counter()
    return _made(context, retrieval_of(context, "examples", as_examples(context.train)), started)


def make_grounding(context: RungContext) -> RungResult:
    """Indexes the tenant's documents, passage by passage."""
    started = time.perf_counter()
    return _made(context, retrieval_of(context, "passages", as_passages(context)), started)


def _made(context: RungContext, retrieval: Retrieval, started: float) -> RungResult:
    prompt = PromptSpec(
        instruction=context.objective.task.instruction,
        labels=context.labels,
        label_sets=context.label_sets,
        list_labels=context.objective.task.kind is TaskKind.CLASSIFY,
    )
    if prompt.label_sets:
        prompt = with_thresholds(context, trial(context, prompt, retrieval), hold_out(context.train, context.objective.seed)[1])
    candidate = Candidate(
        rung=context.plan.rung,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        retrieval=retrieval,
        seed=context.objective.seed,
    )
    return RungResult(candidate, time.perf_counter() - started)
