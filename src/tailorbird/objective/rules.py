"""Validation rules for a well-formed objective: targets, limits and unsupported combinations."""

from __future__ import annotations

from collections.abc import Iterator

from tailorbird.domain.errors import InvalidInput, ObjectiveInvalid
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import AnswerFormat, Kpi, TaskKind
from tailorbird.domain.rung_wishes import EncoderWishes
from tailorbird.objective.data_rules import data_faults, people_faults
from tailorbird.objective.grounding_rules import grounding_faults
from tailorbird.objective.hosted_rules import hosted_faults
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, answers_of, metrics_for, parse_metric, rungs_for
from tailorbird.objective.objective_file import Fault, ObjectiveFile
from tailorbird.objective.power import shift_faults
from tailorbird.objective.scope_rules import scope_faults
from tailorbird.stats.metric_direction import MEASURES, SCOPE_METRICS, base_of, first_compared
from tailorbird.text.known_templates import TEMPLATES
from tailorbird.text.normalisation import nearest
from tailorbird.text.regex import check_pattern


def faults_of(file: ObjectiveFile) -> list[Fault]:
    """Everything in the objective that cannot be pursued."""
    return [
        *_document_faults(file),
        *_task_faults(file),
        *_kpi_faults(file),
        *_live_faults(file),
        *_comparison_faults(file),
        *_needs_faults(file),
        *grounding_faults(file),
        *hosted_faults(file),
        *scope_faults(file),
        *_search_faults(file),
        *_encoder_faults(file),
        *_base_faults(file),
        *_template_faults(file),
        *_ladder_faults(file),
        *_approval_faults(file),
        *data_faults(file),
        *shift_faults(file),
        *people_faults(file),
    ]


def _search_faults(file: ObjectiveFile) -> list[Fault]:
    """Wishes on a search that no rung of the ladder makes."""
    ladder, hosted = file.objective.ladder, file.objective.hosted
    wishes = file.objective.prompt_search
    searched = (ladder != "auto" and RungKind.PROMPT_SEARCH in ladder) or (hosted is not None and "searched" in hosted.variants)
    if searched or (wishes.calls == "auto" and wishes.proposer is None):
        return []
    what = "`prompt_search` says how long a prompt is searched, and the ladder does not list the rung prompt-search"
    hint = "add prompt-search to the ladder, or searched to `hosted.variants`, or remove the section"
    return [Fault(file.line_of("prompt_search"), what, hint)]


def _encoder_faults(file: ObjectiveFile) -> list[Fault]:
    """Wishes on an encoder that no rung of the ladder tunes, or on an adapter that is none; two encoders of one ranking."""
    wishes, ladder = file.objective.encoder, file.objective.ladder
    if wishes.model != "auto" and file.objective.task.kind is TaskKind.RANK:
        what = "`encoder.model` names an encoder, and a task of kind rank starts from one: `base_model`"
        return [Fault(file.line_of("encoder.model"), what, "name it as `base_model`, and remove `encoder.model`")]
    if (wishes.method, wishes.rank) == (EncoderWishes().method, EncoderWishes().rank):
        return []
    if ladder == "auto" or RungKind.ENCODER not in ladder:
        what = "`encoder` says how an encoder is tuned, and the ladder does not list the rung encoder"
        return [Fault(file.line_of("encoder"), what, "add encoder to the ladder, or remove the section")]
    if wishes.rank != "auto" and wishes.method == "full":
        what = "`encoder.rank` is the rank of an adapter, and all weights are to be tuned"
        return [Fault(file.line_of("encoder.rank"), what, "add `method: lora`, or remove `rank`")]
    return []


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
    faults += _order_faults(file)
    if file.objective.floor.vectors is True and task.kind is not TaskKind.CLASSIFY:
        what = f"a task of kind {task.kind.value} has no classical reference that could read vectors"
        faults.append(Fault(file.line_of("floor"), what, "remove `floor`, or use kind: classify"))
    if task.thinking and task.kind is not TaskKind.GENERATE:
        what = f"a task of kind {task.kind.value} scores its answers: nothing is reasoned before them"
        faults.append(Fault(file.line_of("task.thinking"), what, "remove `thinking`, or use kind: generate"))
    if task.thinking and file.objective.limits.memorisation is not None:
        what = "planted strings are learned without reasoning before them: what a model that reasons has memorised is not measured by them"
        faults.append(Fault(file.line_of("limits.memorisation"), what, "remove `limits.memorisation`, or `thinking`"))
    if task.format is not None:
        faults += _format_faults(task.format, task.kind, file.line_of("task.format"))
    return faults


def _order_faults(file: ObjectiveFile) -> list[Fault]:
    """An order of labels that are none, of several an item, of one, or that names one twice."""
    order, line, answers = file.objective.task.label_order, file.line_of("task.label_order"), answers_of(file.objective.task)
    if not order:
        return []
    if answers is not AnswerKinds.LABEL:
        return [Fault(line, f"`label_order` fits no task of {answers.value}", "remove it: it works with kind: classify, labels: one")]
    if twice := next((label for place, label in enumerate(order) if label in order[:place]), None):
        return [Fault(line, f"the label {twice!r} stands twice in `label_order`", "name each label once, from the lowest to the highest")]
    if len(order) < 3:
        return [Fault(line, "an order takes three labels and more: of two, each is one level off", "name all labels, or remove it")]
    return []


def _format_faults(form: AnswerFormat, kind: TaskKind, line: int) -> list[Fault]:
    if kind is not TaskKind.GENERATE:
        return [Fault(line, f"a task of kind {kind.value} has no free answers to give a form to", "remove `format`, or use kind: generate")]
    if form.json_keys is None and form.pattern is None:
        return [Fault(line, "`task.format` asks for nothing", "give `json_keys` or `pattern`")]
    try:
        check_pattern(form.pattern or "")
    except InvalidInput as error:
        return [Fault(line, f"`task.format.pattern`: {error.message}", error.hint, error.error_code)]
    return []


def _needs_faults(file: ObjectiveFile) -> list[Fault]:
    """Metrics that rest on a key which is not there, and a referral that rests on probabilities which are not there."""
    objective = file.objective
    named = [(kpi.metric, f"kpis.{index}.metric") for index, kpi in enumerate(objective.kpis)]
    named += [(objective.compare_on, "compare_on")] if objective.compare_on else []
    faults = [fault for metric, path in named for fault in _lacking(file, metric, file.line_of(path))]
    for name in ("retention", "memorisation"):
        if objective.task.kind is TaskKind.RANK and getattr(objective.limits, name) is not None:
            line = file.line_of(f"limits.{name}")
            faults.append(
                Fault(line, f"`{name}` is measured on models that write, and ranking tunes one that does not", "remove the limit")
            )
    return [*faults, *_referral_faults(file)]


def _referral_faults(file: ObjectiveFile) -> list[Fault]:
    """A label is referred for its probability, a generated answer for what it says; several labels and rankings are not."""
    referral, answers, line = file.objective.referral, answers_of(file.objective.task), file.line_of("referral")
    if referral is None:
        return []
    wanted = {AnswerKinds.LABEL: "max_error", AnswerKinds.TEXT: "pattern"}.get(answers)
    if wanted is None:
        what = f"`referral` fits no task of {answers.value}"
        return [Fault(line, what, "remove it: it works with kind: classify, labels: one, and with kind: generate")]
    examples = {"max_error": "`referral: {max_error: 0.05}`", "pattern": '`referral: {pattern: "a colleague will"}`'}
    given = [name for name in examples if getattr(referral, name) is not None]
    if given != [wanted]:
        return [Fault(line, f"`referral` of a task of {answers.value} is told by `{wanted}` alone", f"write {examples[wanted]}")]
    try:
        check_pattern(referral.pattern or "")
    except InvalidInput as error:
        return [Fault(file.line_of("referral.pattern"), f"`referral.pattern`: {error.message}", error.hint, error.error_code)]
    return []


def _lacking(file: ObjectiveFile, metric: str, line: int) -> Iterator[Fault]:
    """What a metric needs to be measured, and the objective does not say."""
    if metric in ("coverage", "selective_risk", "referral_recall", "referral_precision") and file.objective.referral is None:
        generated = answers_of(file.objective.task) is AnswerKinds.TEXT
        hint = '{pattern: "a colleague will"}' if generated else "{max_error: 0.05}"
        yield Fault(line, f"{metric} needs to know which answers are left to people", f"add `referral: {hint}`")
    if metric == "tool_call_accuracy" and not any(source.tools for source in file.objective.data):
        yield Fault(
            line, "tool_call_accuracy is about conversations that offer functions, and no source has any", "name `tools` under `data`"
        )
    if metric in ("ordinal_score", "within_one") and not file.objective.task.label_order:
        yield Fault(line, f"{metric} needs to know the order of the labels", "add `label_order: [lowest, ..., highest]` under `task`")
    if metric == "groundedness" and not file.objective.documents:
        yield Fault(line, "groundedness is measured against passages of documents, and none are named", "add `documents:`")
    if metric == "format_valid" and file.objective.task.format is None:
        yield Fault(line, "format_valid needs to know the form", "add `format: {json_keys: [...]}` or a `pattern` under `task`")
    if metric == "field_score" and (file.objective.task.format is None or file.objective.task.format.json_keys is None):
        yield Fault(line, "field_score is of answers that are JSON objects", "add `format: {json_keys: [...]}` under `task`")


#: Limits and readings that are no metric of answers, by which somebody might want to compare.
_NOT_COMPARED = ("latency_p95_ms", "cost_per_1k_requests", "tokens_per_request", "retention", "memorisation")


def _comparison_faults(file: ObjectiveFile) -> list[Fault]:
    """A metric in which no two candidates can be compared; a margin that no difference can reach, or of a metric that does not fit."""
    objective, answers = file.objective, answers_of(file.objective.task)
    metric, line = objective.compare_on, file.line_of("compare_on")
    if metric in SCOPE_METRICS:
        what = f"candidates are not compared on {metric}: it rests on other rows than their answers do"
        return [Fault(line, what, f"put a target on it under `kpis`, and compare on one of: {_compared(answers)}")]
    if metric in _NOT_COMPARED:
        what = f"candidates are not compared on {metric}: it is a limit that each must keep, and no measure of its answers"
        return [Fault(line, what, f"use one of: {_compared(answers)}; put a bound on {metric} under `limits`")]
    faults = _metric_faults(metric, answers, line) if metric else []
    margins = objective.margin if isinstance(objective.margin, dict) else {}
    for name, margin in margins.items():
        at = file.line_of(f"margin.{name}")
        if name in SCOPE_METRICS:
            faults.append(Fault(at, f"candidates are not compared on {name}, so that it has no margin", "remove it"))
            continue
        faults += _metric_faults(_whichever_label(name), answers, at) or _margin_faults(f"margin.{name}", margin, name, at)
    stated_in = metric or first_compared(kpi.metric for kpi in objective.kpis)
    if not isinstance(objective.margin, dict) and base_of(stated_in) in MEASURES:
        faults += _margin_faults("margin", objective.margin, stated_in, file.line_of("margin"))
    return faults


def _compared(answers: AnswerKinds) -> str:
    """The metrics in which candidates of a task are compared."""
    return ", ".join(name for name in metrics_for(answers) if name not in SCOPE_METRICS)


def _whichever_label(name: str) -> str:
    """A margin may be that of all labels: ``recall``."""
    spec = CATALOGUE.get(name)
    return f"{name}[label]" if spec is not None and spec.labelled else name


def _margin_faults(path: str, margin: float, metric: str, line: int) -> list[Fault]:
    """Half of the way from one end of the metric to the other is more than any two candidates can be asked to differ by."""
    measure = MEASURES[base_of(metric)]
    most = measure.highest / 2
    if margin <= most:
        return []
    of = "" if measure.unit == "share" else f" ({measure.unit} of {base_of(metric)})"
    return [Fault(line, f"`{path}` must be at most {most:g}{of}, not {margin:g}", f"the nearest valid value is {most:g}")]


def _kpi_faults(file: ObjectiveFile) -> list[Fault]:
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for index, kpi in enumerate(file.objective.kpis):
        line = file.line_of(f"kpis.{index}.metric")
        if kpi.metric in seen:
            faults.append(Fault(line, f"the metric {kpi.metric!r} has a target already, on line {seen[kpi.metric]}", "keep one of the two"))
            continue
        seen[kpi.metric] = line
        faults += _metric_faults(kpi.metric, answers_of(file.objective.task), line) or _target_faults(
            kpi, file.line_of(f"kpis.{index}.target")
        )
    return faults


def _live_faults(file: ObjectiveFile) -> list[Fault]:
    """A live KPI that is there twice."""
    listed = [kpi.metric for kpi in file.objective.live_kpis]
    twice = [index for index, metric in enumerate(listed) if metric in listed[:index]]
    return [
        Fault(file.line_of(f"live_kpis.{index}"), f"the live KPI {listed[index]!r} is listed twice", "keep one of the two")
        for index in twice
    ]


def _metric_faults(metric: str, answers: AnswerKinds, line: int) -> list[Fault]:
    try:
        base = parse_metric(metric).base
    except ObjectiveInvalid as error:
        return [Fault(line, error.message, error.hint)]
    if answers in CATALOGUE[base].answers:
        return []
    message = f"metric {metric!r} does not fit a task of {answers.value}"
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


def _template_faults(file: ObjectiveFile) -> list[Fault]:
    """A chat template by a name that is not known, or for an encoder, which reads no conversation."""
    name, known = file.objective.chat_template, tuple(TEMPLATES)
    if name is None:
        return []
    line = file.line_of("chat_template")
    if file.objective.task.kind is TaskKind.RANK:
        return [Fault(line, "`chat_template` is of no use to a task of kind rank: its base is an encoder", "remove it")]
    if name in known or name.endswith(".jinja"):
        return []
    hint = f"{_mean(name, known)}known are {', '.join(known)}; or give the path of a .jinja file"
    return [Fault(line, f"no chat template is called {name!r}", hint, "chat_template_unknown")]


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
