"""What people should know of a rung beside its verdict: how its training stood still, and what is odd about its answers."""

from __future__ import annotations

from tailorbird.domain.evidence import Evidence
from tailorbird.domain.ladder import Making
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.run import TrainingPlateau, TrainingReport
from tailorbird.usecases.steps.step_context import StepContext


def remarks_of(context: StepContext, making: Making, evidence: Evidence) -> tuple[str, ...]:
    """The remarks on a measured rung, those on its training first."""
    report = context.record(TrainingReport, making.training) if making.training else None
    if report is None or report.plateau is None:
        return evidence.remarks
    return (plateau_text(report.plateau, context.objective.task.kind), *evidence.remarks)


def plateau_text(plateau: TrainingPlateau, kind: TaskKind) -> str:
    """A sentence on a training that stood still for some time, or to its end."""
    what = "the loss of label frequencies alone" if kind is TaskKind.CLASSIFY else "the loss of the untrained model"
    added = f", although {plateau.added} steps were added" if plateau.added else ""
    if plateau.left is None:
        return (
            f"training did not get clearly below {what} ({plateau.loss:.2f} nats an answer; it reached {plateau.held_out:.2f} on rows held "
            f"out{added}): it has learned little or nothing"
        )
    return f"training stood at {what} ({plateau.loss:.2f} nats an answer) until step {plateau.left}, so {plateau.added} steps were added"
