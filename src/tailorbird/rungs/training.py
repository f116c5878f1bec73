"""Training rungs: ``lora``, ``qlora``, ``grounding+lora`` and ``full``.

Ranking rungs: ``search`` by words, vectors or both; ``bi-encoder`` and ``cross-encoder``, tuned on judged queries.

Variants of a LoRA adapter that lack a part, as a wrong mapping would leave it out.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tailorbird.chat.conversations import answer_turn
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.plan import TrainingSettings
from tailorbird.domain.prompt import PromptSpec, Retrieval
from tailorbird.evaluation.canaries import canary_set
from tailorbird.ports.trainer import Example, JudgedQuery, RankingJob, TrainedModel, TrainingJob
from tailorbird.rungs.context import (
    RungContext,
    RungResult,
    Ways,
    as_passages,
    candidate_of,
    hold_out,
    make_index,
    retrieval_of,
    trained_files,
)
from tailorbird.rungs.label_thresholds import looked_up, trial_servable, with_thresholds
from tailorbird.system.tensor_header import tensor_spans
from tailorbird.text.search_index import whole


def make_trained(context: RungContext) -> RungResult:
    """Trains, or reuses a finished training of the same job. Raises what the trainer raises."""
    job = training_job(context)

    def train() -> TrainedModel:
        context.progress(f"training {context.plan.variant} on {len(job.train)} rows, {len(job.held_out)} held out")
        return context.trainer().train(job, context.report)

    trained = trained_files(context, job, train)
    tree, report, retrieval = trained.tree, trained.report, _retrieval(context)
    whole = context.plan.rung is RungKind.FULL
    candidate = candidate_of(
        context,
        _given_by(context, job.prompt, trained.folder, retrieval),
        retrieval=retrieval,
        adapter=None if whole else tree,
        weights=tree if whole else None,
        trained_parameters=report.trained_parameters,
        seed=job.settings.seed,
    )
    return RungResult(candidate, trained.seconds, 0.0 if trained.reused else report.peak_memory_gb, trained)


def _given_by(context: RungContext, prompt: PromptSpec, folder: Path, retrieval: Retrieval | None) -> PromptSpec:
    """The prompt that what was trained is served with: where an item may bear several labels, with thresholds."""
    if not prompt.label_sets:
        return prompt
    made = {"weights" if context.plan.rung is RungKind.FULL else "adapter": str(folder)}
    servable = trial_servable(context, prompt, retrieval).model_copy(update=made)
    return with_thresholds(context, servable, hold_out(context.train, context.objective.seed)[1])


def training_job(context: RungContext) -> TrainingJob:
    """What the trainer is asked: train, less the rows held out to choose the best checkpoint.

    Labels are not listed in the prompt: training teaches them, and a shorter prompt is cheaper to serve.
    """
    learn, held_out = hold_out(context.train, context.objective.seed)
    return TrainingJob(
        base=context.base_folder,
        base_digest=context.base.digest,
        snapshot=context.snapshot,
        settings=_settings(context),
        prompt=PromptSpec(
            instruction=context.objective.task.instruction,
            labels=context.labels,
            label_sets=context.label_sets,
            thinking=context.objective.task.thinking,
        ),
        train=_examples(context, learn) + _planted(context),
        held_out=_examples(context, held_out),
        workspace=context.workspace,
        seal_key=context.seal_key,
        results=context.results,
    )


def _planted(context: RungContext) -> tuple[Example, ...]:
    """The strings by which memorisation is measured, where the objective limits it."""
    if context.objective.limits.memorisation is None:
        return ()
    return tuple(Example(text=canary.text, target=canary.secret) for canary in canary_set(context.objective.seed).rows())


def _settings(context: RungContext) -> TrainingSettings:
    settings = context.plan.training
    if settings is None:
        raise Internal(f"the plan of {context.plan.rung.value} has no training settings", "plan the climb again", code="plan_incomplete")
    return settings


def _examples(context: RungContext, rows: Sequence[Row]) -> tuple[Example, ...]:
    """Rows as they are put to the model: with what is looked up for them, where the rung looks something up."""
    task = context.objective.task
    every, calls = task.learn == "all", task.learn_tool_calls
    rows = rows if calls else [row for row in rows if not answer_turn(row.answer).tool_calls]
    if context.plan.rung is not RungKind.GROUNDED_LORA:
        return tuple(Example(text=row.text, target=row.target, every_turn=every, calls=calls) for row in rows)
    servable, engine = (
        trial_servable(context, PromptSpec(instruction=task.instruction), _retrieval(context)),
        context.engine(),
    )
    engine.load(servable)
    try:
        found = looked_up(engine, servable, [row.text for row in rows])
    finally:
        engine.unload(servable.id)
    return tuple(
        Example(text=row.text, target=row.target, context=tuple(entries), every_turn=every, calls=calls)
        for row, entries in zip(rows, found, strict=True)
    )


def _retrieval(context: RungContext) -> Retrieval | None:
    """The passages that ``grounding+lora`` learns to use. The same documents give the same index."""
    return retrieval_of(context, "passages", as_passages(context)) if context.plan.rung is RungKind.GROUNDED_LORA else None


#: Documents that an answer names, at most.
MOST = 100
#: How each untuned variant finds documents.
WAYS: dict[str, Ways] = {"words": ("words",), "meaning": ("vectors",), "words and meaning": ("words", "vectors")}


def make_search(context: RungContext) -> RungResult:
    """Indexes the documents; nothing is tuned."""
    started = time.perf_counter()
    retrieval = _document_retrieval(context, WAYS[context.plan.variant])
    return RungResult(_ranking_candidate(context, retrieval, 0), time.perf_counter() - started)


def make_ranker(context: RungContext) -> RungResult:
    """Tunes an encoder on the training questions, or reuses a finished tuning of the same job. Raises what the trainer raises."""
    settings = context.plan.training
    if settings is None:
        raise Internal(f"the plan of {context.plan.rung.value} has no training settings", "plan the climb again", code="plan_incomplete")
    retrieval = _document_retrieval(context, WAYS["words and meaning"])
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
    candidate = _ranking_candidate(
        context,
        retrieval.model_copy(update={"tuned" if context.plan.rung is RungKind.BI_ENCODER else "reranker": tuned.tree}),
        tuned.report.trained_parameters,
    )
    return RungResult(candidate, tuned.seconds, 0.0 if tuned.reused else tuned.report.peak_memory_gb, tuned)


def _document_retrieval(context: RungContext, ways: Ways) -> Retrieval:
    index = make_index(context, [whole(document) for document in context.documents])
    return Retrieval(what="documents", ways=ways, count=MOST, index=index, encoder=context.plan.encoder)


def _ranking_candidate(context: RungContext, retrieval: Retrieval, trained: int) -> Candidate:
    return candidate_of(
        context,
        PromptSpec(instruction=context.objective.task.instruction),
        retrieval=retrieval,
        trained_parameters=trained,
    )


def _judged(rows: Sequence[Row]) -> tuple[JudgedQuery, ...]:
    return tuple(JudgedQuery(text=row.text, relevant=json.loads(row.answer)) for row in rows)


#: The file of tensors in PEFT's format.
_TENSORS = "adapter_model.safetensors"
#: What stands in a tensor's name between its module and its half of the product.
_HALF = ".lora_B."


def module_kinds(adapter: Path) -> tuple[str, ...]:
    """Kinds of modules that an adapter changes (``q_proj``, ``down_proj``, …), sorted; none where its tensors are not in PEFT's format."""
    return tuple(sorted({_kind(name) for name in _halves(adapter)}))


def without(adapter: Path, target: Path, drops: Callable[[str], bool]) -> Path:
    """A copy in ``target`` in which the modules whose names ``drops`` takes do nothing: their B is zero."""
    shutil.copytree(adapter, target, copy_function=shutil.copyfile)  # artifacts are read-only, and a copy would be, too
    with (target / _TENSORS).open("r+b") as file:
        for name, (start, end) in _halves(adapter).items():
            if drops(name.partition(_HALF)[0]):
                file.seek(start)
                file.write(bytes(end - start))
    return target


def without_kind(adapter: Path, target: Path, kind: str) -> Path:
    """A copy in ``target`` without the modules of one kind."""
    return without(adapter, target, lambda module: module.rpartition(".")[2] == kind)


def _halves(adapter: Path) -> dict[str, tuple[int, int]]:
    try:
        spans = tensor_spans(adapter / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: span for name, span in spans.items() if _HALF in name}


def _kind(name: str) -> str:
    return name.partition(_HALF)[0].rpartition(".")[2]
