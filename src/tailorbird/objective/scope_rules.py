"""Rules on ``task.out_of_scope``: the tasks that it fits, and the sources and metrics that need it."""

from __future__ import annotations

from tailorbird.domain.objective import TaskKind
from tailorbird.objective.objective_file import Fault, ObjectiveFile
from tailorbird.stats.metric_direction import SCOPE_METRICS

#: Code of a refusal to look for requests out of scope where labels do not exclude one another, or where there are none.
SCOPE_TASK = "out_of_scope_task"
_EXAMPLE = "`out_of_scope: {refuse_known_at_most: 0.05}`"


def scope_faults(file: ObjectiveFile) -> list[Fault]:
    """``out_of_scope`` on a task that cannot have it; what needs it and stands there without."""
    task, line = file.objective.task, file.line_of("task.out_of_scope")
    if task.out_of_scope is None:
        return _needing(file)
    if task.kind is not TaskKind.CLASSIFY:
        what = f"a task of kind {task.kind.value} gives no labels, of which none could fit"
        return [Fault(line, what, "remove `out_of_scope`, or use kind: classify", SCOPE_TASK)]
    if task.labels == "many":
        what = "an item that may bear several labels may bear none of them: that is the answer to what is out of scope"
        return [Fault(line, what, "remove `out_of_scope`, and label such rows `none`; or use labels: one", SCOPE_TASK)]
    return []


def _needing(file: ObjectiveFile) -> list[Fault]:
    objective, hint = file.objective, f"add {_EXAMPLE} under `task`"
    places = [f"data.{index}.out_of_scope" for index, source in enumerate(objective.data) if source.out_of_scope]
    faults = [
        Fault(file.line_of(place), "the source holds what none of the labels fits, and the task refuses nothing", hint) for place in places
    ]
    named = [(index, kpi.metric) for index, kpi in enumerate(objective.kpis) if kpi.metric in SCOPE_METRICS]
    faults += [
        Fault(file.line_of(f"kpis.{index}.metric"), f"{metric} is about refusing requests, and the task refuses none", hint)
        for index, metric in named
        if objective.task.kind is TaskKind.CLASSIFY and objective.task.labels == "one"
    ]
    return faults
