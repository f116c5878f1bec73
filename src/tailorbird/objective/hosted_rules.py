"""Rules on ``hosted``: the tasks and rungs that it fits, and the section that the rung needs."""

from __future__ import annotations

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.objective.objective_file import Fault, ObjectiveFile


def hosted_faults(file: ObjectiveFile) -> list[Fault]:
    """Everything under ``hosted`` that nothing could come of; and a rung ``hosted`` without it."""
    objective = file.objective
    listed = objective.ladder != "auto" and RungKind.HOSTED in objective.ladder
    if objective.hosted is None:
        what = "the ladder lists the rung hosted, and nothing says which model is asked"
        return [Fault(file.line_of("ladder"), what, "add `hosted: {endpoint: NAME, model: NAME}`")] if listed else []
    if objective.task.kind is TaskKind.RANK:
        return [Fault(file.line_of("hosted"), "a task of kind rank is not answered by a hosted model", "remove `hosted`")]
    if objective.ladder != "auto" and not listed:
        what = "`hosted` names a model, and the ladder does not list the rung"
        return [Fault(file.line_of("hosted"), what, "add hosted to the ladder, or remove the section")]
    return []
