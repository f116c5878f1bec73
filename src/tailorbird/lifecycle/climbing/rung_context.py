"""What a rung is given, put together from a run's record.

In: a stage, a rung's plan, the base model. Out: ``RungContext``. Must not know: how a rung works.
"""

from __future__ import annotations

from tailorbird import rungs
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Split
from tailorbird.domain.plan import RungPlan
from tailorbird.foundations.canonical import digest_of
from tailorbird.lifecycle.steps import story
from tailorbird.lifecycle.steps.fork import source_of
from tailorbird.lifecycle.steps.limits import within_budget
from tailorbird.lifecycle.steps.stage import Stage


def context_of(stage: Stage, rung: RungPlan, base: BaseModelRef) -> rungs.RungContext:
    """The context of one rung. Its progress raises once the objective's budget is used up."""
    progress = within_budget(stage.progress, stage.objective.budget, stage.spent, stage.parts.prices.per_hour)
    return rungs.RungContext(
        objective=stage.objective,
        plan=rung,
        base=base,
        base_folder=stage.parts.artifacts.get_tree(base.digest),
        snapshot=digest_of(stage.manifest),
        labels=stage.manifest.labels,
        label_sets=stage.manifest.label_sets,
        train=stage.rows(Split.TRAIN),
        dev=stage.rows(Split.DEV),
        documents=stage.documents,
        encoder_folder=stage.parts.artifacts.get_tree(rung.encoder) if rung.encoder else None,
        encoder=stage.parts.encoder,
        trainer=stage.parts.trainer,
        engine=stage.parts.engine,
        artifacts=stage.parts.artifacts,
        workspace=stage.folder / story.make_step(rung).replace(" ", "-"),
        fork=source_of(stage.folder),
        report=progress.training,
        progress=progress.tell,
    )
