"""The rungs that train: ``lora`` and ``full``. They differ in the settings they train with and in what is kept.

In: a ``RungContext`` whose plan has training settings. Out: a candidate with an adapter or weights, and the report. Must not know: the
loop; dev and test rows, which are never read here.
"""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.plan import TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.trainer import Example, TrainedModel, TrainingJob
from tailorbird.rungs.context import Made, RungContext
from tailorbird.rungs.holding_out import hold_out


def make_trained(context: RungContext) -> Made:
    """Trains on train, less the rows held out to choose the best checkpoint, and stores the result.

    Labels are not listed in the prompt: training teaches them, and a shorter prompt is cheaper to serve. Raises what the trainer raises.
    """
    prompt = PromptSpec(instruction=context.objective.task.instruction, labels=context.labels, label_sets=context.label_sets)
    trained = _train(context, prompt)
    tree = context.artifacts.put_tree(trained.folder)
    report = trained.report
    candidate = Candidate(
        rung=context.plan.rung,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        adapter=tree if context.plan.rung is RungKind.LORA else None,
        weights=tree if context.plan.rung is RungKind.FULL else None,
        trained_parameters=report.trained_parameters,
        seed=_settings(context).seed,
    )
    return Made(candidate, report.seconds, report.peak_memory_gb, report)


def _train(context: RungContext, prompt: PromptSpec) -> TrainedModel:
    learn, held_out = hold_out(context.train, context.objective.seed)
    context.progress(f"training {context.plan.variant} on {len(learn)} rows, {len(held_out)} held out")
    job = TrainingJob(
        base=context.base_folder,
        base_digest=context.base.digest,
        snapshot=context.snapshot,
        settings=_settings(context),
        prompt=prompt,
        train=_examples(learn),
        held_out=_examples(held_out),
        workspace=context.workspace,
    )
    return context.trainer().train(job, context.report)


def _settings(context: RungContext) -> TrainingSettings:
    settings = context.plan.training
    if settings is None:
        raise Internal(f"the plan of {context.plan.rung.value} has no training settings", "plan the climb again", code="plan_incomplete")
    return settings


def _examples(rows: Sequence[Row]) -> tuple[Example, ...]:
    return tuple(Example(text=row.text, target=row.target) for row in rows)
