"""What a well-formed objective must also obey: targets that make sense, and only what this version can do.

In: an objective and its lines. Out: faults. Must not know: YAML, data.
"""

from __future__ import annotations

import re

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import AnswerFormat, Kpi, TaskKind
from tailorbird.foundations.text import nearest
from tailorbird.objective.catalogue import CATALOGUE, Answers, answers_of, metrics_for, parse_metric, rungs_for
from tailorbird.objective.data_rules import data_faults
from tailorbird.objective.faults import Fault
from tailorbird.objective.file import ObjectiveFile
from tailorbird.objective.people import people_faults
from tailorbird.objective.shift_power import shift_faults


def faults_of(file: ObjectiveFile) -> list[Fault]:
    """Everything in the objective that cannot be pursued."""
    return [
        *_document_faults(file),
        *_task_faults(file),
        *_kpi_faults(file),
        *_live_faults(file),
        *_needs_faults(file),
        *_base_faults(file),
        *_ladder_faults(file),
        *_approval_faults(file),
        *data_faults(file),
        *shift_faults(file),
        *people_faults(file),
    ]


def _document_faults(file: ObjectiveFile) -> list[Fault]:
    """What orders documents needs some."""
    if file.objective.task.kind is not TaskKind.RANK or file.objective.documents:
        return []
    hint = "add `documents:` with the path of what is to be ranked"
    return [Fault(file.line_of("task.kind"), "a task of kind rank names no documents", hint)]


def _task_faults(file: ObjectiveFile) -> list[Fault]:
    task, faults = file.objective.task, []
    if task.labels == "many" and task.kind is not TaskKind.CLASSIFY:
        line = file.line_of("task.labels")
        faults.append(Fault(line, f"a task of kind {task.kind.value} has no labels", "remove `labels`, or use kind: classify"))
    if file.objective.floor.vectors is True and task.kind is not TaskKind.CLASSIFY:
        what = f"a task of kind {task.kind.value} has no classical reference that could read vectors"
        faults.append(Fault(file.line_of("floor"), what, "remove `floor`, or use kind: classify"))
    if task.format is not None:
        faults += _format_faults(task.format, task.kind, file.line_of("task.format"))
    return faults


def _format_faults(form: AnswerFormat, kind: TaskKind, line: int) -> list[Fault]:
    if kind is not TaskKind.GENERATE:
        return [Fault(line, f"a task of kind {kind.value} has no free answers to give a form to", "remove `format`, or use kind: generate")]
    if form.json_keys is None and form.pattern is None:
        return [Fault(line, "`task.format` asks for nothing", "give `json_keys` or `pattern`")]
    try:
        re.compile(form.pattern or "")
    except re.error as error:
        return [Fault(line, f"`task.format.pattern` is no regular expression: {error.msg}", "write one that Python's re.fullmatch takes")]
    return []


def _needs_faults(file: ObjectiveFile) -> list[Fault]:
    """KPIs that rest on a key which is not there, and a referral that rests on probabilities which are not there."""
    objective = file.objective
    faults = []
    for index, kpi in enumerate(objective.kpis):
        line = file.line_of(f"kpis.{index}.metric")
        if kpi.metric in ("coverage", "selective_risk") and objective.referral is None:
            faults.append(Fault(line, f"{kpi.metric} needs to know which answers are left to people", "add `referral: {max_error: 0.05}`"))
        if kpi.metric == "groundedness" and not objective.documents:
            faults.append(Fault(line, "groundedness is measured against passages of documents, and none are named", "add `documents:`"))
        if kpi.metric == "format_valid" and objective.task.format is None:
            faults.append(
                Fault(line, "format_valid needs to know the form", "add `format: {json_keys: [...]}` or a `pattern` under `task`")
            )
    for name in ("retention", "memorisation"):
        if objective.task.kind is TaskKind.RANK and getattr(objective.limits, name) is not None:
            line = file.line_of(f"limits.{name}")
            faults.append(
                Fault(line, f"`{name}` is measured on models that write, and ranking tunes one that does not", "remove the limit")
            )
    if objective.referral is not None and answers_of(objective.task) is not Answers.LABEL:
        line = file.line_of("referral")
        faults.append(Fault(line, "`referral` rests on one probability an answer", "remove it: it works with kind: classify, labels: one"))
    return faults


def _kpi_faults(file: ObjectiveFile) -> list[Fault]:
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for index, kpi in enumerate(file.objective.kpis):
        line = file.line_of(f"kpis.{index}.metric")
        if kpi.metric in seen:
            faults.append(Fault(line, f"the metric {kpi.metric!r} has a target already, on line {seen[kpi.metric]}", "keep one of the two"))
            continue
        seen[kpi.metric] = line
        faults += _metric_faults(kpi, answers_of(file.objective.task), line) or _target_faults(kpi, file.line_of(f"kpis.{index}.target"))
    return faults


def _live_faults(file: ObjectiveFile) -> list[Fault]:
    """A live KPI that is there twice."""
    listed = [kpi.metric for kpi in file.objective.live_kpis]
    twice = [index for index, metric in enumerate(listed) if metric in listed[:index]]
    return [
        Fault(file.line_of(f"live_kpis.{index}"), f"the live KPI {listed[index]!r} is listed twice", "keep one of the two")
        for index in twice
    ]


def _metric_faults(kpi: Kpi, answers: Answers, line: int) -> list[Fault]:
    try:
        base = parse_metric(kpi.metric).base
    except ObjectiveInvalid as error:
        return [Fault(line, error.message, error.hint)]
    if answers in CATALOGUE[base].answers:
        return []
    message = f"metric {kpi.metric!r} does not fit a task of {answers.value}"
    return [Fault(line, message, f"use one of: {', '.join(metrics_for(answers))}")]


def _target_faults(kpi: Kpi, line: int) -> list[Fault]:
    spec = CATALOGUE[parse_metric(kpi.metric).base]
    if 0 < kpi.target <= spec.highest:
        return []
    what = "a share between 0 and 1" if spec.highest == 1 else f"more than 0 and at most {spec.highest:g} nats"
    if spec.highest == 1 and 2 <= kpi.target <= 100:
        hint = f"write {kpi.target / 100:g} for {kpi.target:g} %"
    else:
        hint = (
            f"the nearest valid value is {spec.highest:g}" if kpi.target > 0 else "write a number above 0, such as the value reached today"
        )
    return [Fault(line, f"the target of {kpi.metric} must be {what}, not {kpi.target:g}", hint)]


def _base_faults(file: ObjectiveFile) -> list[Fault]:
    """One base model or several, and none twice."""
    if "base_models" not in file.lines:
        return []
    line, names = file.line_of("base_models"), file.objective.base_models
    if "base_model" in file.lines:
        return [Fault(line, "both `base_model` and `base_models` are given", "keep `base_models`, with every model to start from")]
    if not names:
        return [Fault(line, "`base_models` names none", "write at least one, or `base_model: smollm2-135m`")]
    twice = [index for index, name in enumerate(names) if name in names[:index]]
    return [Fault(file.line_of(f"base_models.{index}"), f"{names[index]!r} is listed twice", "keep one of the two") for index in twice]


def _ladder_faults(file: ObjectiveFile) -> list[Fault]:
    ladder = file.objective.ladder
    if ladder == "auto":
        return []
    fitting = rungs_for(file.objective.task.kind)
    rungs = ", ".join(kind.value for kind in fitting)
    if not ladder:
        return [Fault(file.line_of("ladder"), "the ladder has no rung", f"write auto, or a list of: {rungs}")]
    faults = []
    for index, rung in enumerate(ladder):
        line = file.line_of(f"ladder.{index}")
        if rung is RungKind.FLOOR and file.objective.task.kind is TaskKind.CLASSIFY:
            if file.objective.floor.role == "reference":
                what = "the ladder lists the floor, and `floor: reference` keeps it from being released"
                faults.append(Fault(line, what, "remove one of the two"))
        elif rung not in fitting:
            what = f"the rung {rung.value!r} does not fit a task of kind {file.objective.task.kind.value}"
            faults.append(Fault(line, what, f"rungs are: {rungs}"))
        elif rung in ladder[:index]:
            faults.append(Fault(line, f"the rung {rung.value!r} is listed twice", "keep one of the two"))
    return faults


def _approval_faults(file: ObjectiveFile) -> list[Fault]:
    approvals = file.objective.approvals
    roles = (Role.APPROVER.value, Role.REVIEWER.value)
    return [
        Fault(file.line_of(f"approvals.{index}"), f"{name!r} is no role that decides", f"{_mean(name, roles)}roles: {', '.join(roles)}")
        for index, name in enumerate(() if approvals == "auto" else approvals)
        if name not in roles
    ]


def _mean(name: str, known: tuple[str, ...]) -> str:
    near = nearest(name, known)
    return f"did you mean {near!r}? " if near else ""
