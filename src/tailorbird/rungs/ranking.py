"""Ranking rungs: ``search`` by words, vectors or both; ``bi-encoder`` and ``cross-encoder``, tuned on judged queries."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.prompt import PromptSpec, Retrieval
from tailorbird.domain.value import Digest
from tailorbird.ports.trainer import JudgedQuery, RankingJob, TrainedModel
from tailorbird.rungs.context import RungContext, RungResult, hold_out
from tailorbird.rungs.indexes import Ways, make_index
from tailorbird.rungs.trained_files import trained_files
from tailorbird.text.search_index import whole

#: Documents that an answer names, at most.
MOST = 100
#: How each untuned variant finds documents.
WAYS: dict[str, Ways] = {"words": ("words",), "meaning": ("vectors",), "words and meaning": ("words", "vectors")}


def make_search(context: RungContext) -> RungResult:
    """Indexes the documents; nothing is tuned."""
    started = time.perf_counter()
    retrieval = _retrieval(context, WAYS[context.plan.variant])
    return RungResult(_candidate(context, retrieval, 0), time.perf_counter() - started)


def make_ranker(context: RungContext) -> RungResult:
    """Tunes an encoder on the training questions, or reuses a finished tuning of the same job. Raises what the trainer raises."""
    settings = context.plan.training
    if settings is None:
        raise Internal(f"the plan of {context.plan.rung.value} has no training settings", "plan the climb again", code="plan_incomplete")
    retrieval = _retrieval(context, WAYS["words and meaning"])
    learn, held_out = hold_out(context.train, context.objective.seed)
    job = RankingJob(
        kind="bi-encoder" if context.plan.rung is RungKind.BI_ENCODER else "cross-encoder",
        base=context.base_folder,
        base_digest=context.base.digest,
        snapshot=context.snapshot,
        settings=settings,
        index=context.artifacts.get_tree(retrieval.index),
        train=_judged(learn),
        held_out=_judged(held_out),
        workspace=context.workspace,
        results=context.results,
        index_digest=retrieval.index,
    )

    def tune() -> TrainedModel:
        what = f"{context.plan.rung.value} {context.plan.variant}"
        context.progress(f"tuning {what} on {len(job.train)} questions, {len(job.held_out)} held out")
        return context.trainer().tune(job, context.report)

    tuned = trained_files(context, job, tune)
    candidate = _candidate(context, _with_tuned(context, retrieval, tuned.tree), tuned.report.trained_parameters)
    return RungResult(candidate, tuned.seconds, 0.0 if tuned.reused else tuned.report.peak_memory_gb, tuned)


def _with_tuned(context: RungContext, retrieval: Retrieval, tree: Digest) -> Retrieval:
    return retrieval.model_copy(update={"tuned" if context.plan.rung is RungKind.BI_ENCODER else "reranker": tree})


def _retrieval(context: RungContext, ways: Ways) -> Retrieval:
    index = make_index(context, [whole(document) for document in context.documents])
    return Retrieval(what="documents", ways=ways, count=MOST, index=index, encoder=context.plan.encoder)


def _candidate(context: RungContext, retrieval: Retrieval, trained: int) -> Candidate:
    return Candidate(
        rung=context.plan.rung,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=PromptSpec(instruction=context.objective.task.instruction),
        retrieval=retrieval,
        trained_parameters=trained,
        seed=context.objective.seed,
    )


def _judged(rows: Sequence[Row]) -> tuple[JudgedQuery, ...]:
    return tuple(JudgedQuery(text=row.text, relevant=json.loads(row.answer)) for row in rows)
