"""Training rungs: ``lora``, ``qlora``, ``grounding+lora`` and ``full``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.plan import TrainingSettings
from tailorbird.domain.prompt import PromptSpec, Retrieval
from tailorbird.ports.trainer import Example, TrainedModel, TrainingJob
from tailorbird.rungs.context import RungContext, RungResult, hold_out
from tailorbird.rungs.indexes import as_passages, retrieval_of
from tailorbird.rungs.label_thresholds import looked_up, trial_servable, with_thresholds
from tailorbird.rungs.trained_files import trained_files
from tailorbird.text.canaries import canary_set
from tailorbird.text.conversations import answer_turn


def make_trained(context: RungContext) -> RungResult:
    """Trains, or reuses a finished training of the same job. Raises what the trainer raises."""
    job = training_job(context)

    def train() -> TrainedModel:
        context.progress(f"training {context.plan.variant} on {len(job.train)} rows, {len(job.held_out)} held out")
        return context.trainer().train(job, context.report)

    trained = trained_files(context, job, train)
    tree, report, retrieval = trained.tree, trained.report, _retrieval(context)
    whole = context.plan.rung is RungKind.FULL
    candidate = Candidate(
        rung=context.plan.rung,
        retrieval=retrieval,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=_given_by(context, job.prompt, trained.folder, retrieval),
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
