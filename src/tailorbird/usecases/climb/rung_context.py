"""Rung context, built from the record of a run."""

from __future__ import annotations

from tailorbird import rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Split
from tailorbird.domain.plan import RungPlan
from tailorbird.system.files import private_folder
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.cancellation import within_budget
from tailorbird.usecases.steps.step_context import StepContext


def context_of(context: StepContext, rung: RungPlan, base: BaseModelRef) -> rungs.RungContext:
    """The context of one rung. Its progress raises once the objective's budget is used up."""
    place = transitions.step_folder(transitions.make_step(rung))
    scratch = context.deps.scratch(context.run.id)
    progress = within_budget(context.progress, context.objective.budget, context.spent, context.deps.prices.per_hour)
    return rungs.RungContext(
        objective=context.objective,
        plan=rung,
        base=base,
        base_folder=context.deps.artifacts.get_tree(base.digest),
        snapshot=digest_of(context.manifest),
        labels=context.manifest.labels,
        label_sets=context.manifest.label_sets,
        train=context.rows(Split.TRAIN),
        dev=context.rows(Split.DEV),
        train_items=context.train_items,
        documents=context.documents,
        encoder_folder=context.deps.artifacts.get_tree(rung.encoder) if rung.encoder else None,
        encoder=context.deps.encoder,
        trainer=context.deps.trainer,
        engine=context.deps.engine,
        artifacts=context.deps.artifacts,
        workspace=context.folder / place,
        indexes=context.deps.indexes(context.run.tenant),
        seal_key=context.deps.seal_key("checkpoints"),
        results=scratch and private_folder(scratch / place),
        report=progress.training,
        progress=progress.tell,
        count=progress.count,
        leaves_labels_out=context.leaves_labels_out,
    )
