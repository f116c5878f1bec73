"""Rules on data, labels and people: licences, columns, labels of KPIs, required label review."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.objective import FILL_IN, DataSource, DocumentSource, RiskTier, TaskKind
from tailorbird.objective.kpi_catalogue import AnswerKinds, answers_of
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.stats.metric_direction import label_of
from tailorbird.text.data_licences import clash
from tailorbird.text.normalisation import nearest

LICENSE_CLASH = "license_clash"

#: What is written in place of a text that is still open, by the last part of its key.
_ASKED = {
    "origin": 'write whose data it is, in its place: "mails to our support desk, 2024"',
    "license": 'write on what terms it may be used, in its place: an SPDX name as CC-BY-4.0, or "proprietary, our own"',
    "consent": 'write what the people behind it agreed to, in its place: "terms of service, section 4", or "not needed: ..."',
}


def data_faults(file: ObjectiveFile) -> list[Fault]:
    """Every source that may not be used, or not like this."""
    faults = [*_open_faults(file), *_licence_faults(file), *_messages_faults(file), *_shared_faults(file), *_generated_faults(file)]
    return [*faults, *_column_faults(file)]


def _column_faults(file: ObjectiveFile) -> list[Fault]:
    """Columns of labels where there are none, and two words on one row's split."""
    objective, faults = file.objective, list[Fault]()
    for index, source in enumerate(objective.data):
        if not isinstance(source.label, str) and objective.task.kind is not TaskKind.CLASSIFY:
            what = f"a task of kind {objective.task.kind.value} has no labels, of which each could have a column"
            faults.append(Fault(file.line_of(f"data.{index}.label"), what, "name the one column of answers, or use kind: classify"))
        if source.split and source.split_column:
            what = "`split` puts the whole source into one split, and `split_column` says another for each row"
            faults.append(Fault(file.line_of(f"data.{index}.split_column"), what, "remove one of them"))
    return faults


def _generated_faults(file: ObjectiveFile) -> list[Fault]:
    """Rows that a model has labelled, and that something could be measured on; and a teacher of what has no labels."""
    objective = file.objective
    what, hint = "rows that a model has labelled are learned from, and never measured on", "write `split: train` for the source"
    made = [index for index, source in enumerate(objective.data) if source.source.generated and source.split != "train"]
    faults = [Fault(file.line_of(f"data.{index}.source.generated"), what, hint) for index in made]
    if objective.teacher is not None and objective.task.kind is not TaskKind.CLASSIFY:
        what = f"a task of kind {objective.task.kind.value} has no labels that a teacher could give"
        faults.append(Fault(file.line_of("teacher"), what, "remove `teacher`, or use kind: classify"))
    return faults


def _shared_faults(file: ObjectiveFile) -> list[Fault]:
    """Sources that are shared with nobody: the objective is one tenant's."""
    sections: dict[str, tuple[DataSource | DocumentSource, ...]] = {"data": file.objective.data, "documents": file.objective.documents}
    shared = [f"{name}.{index}.shared" for name, sources in sections.items() for index, source in enumerate(sources) if source.shared]
    hint = 'remove it, or write the objective for many tenants: tenant: "{tenant}"'
    what = f"`shared` is said between tenants, and the objective is of {file.objective.tenant} alone"
    return [] if file.for_tenants else [Fault(file.line_of(path), what, hint) for path in shared]


def _open_faults(file: ObjectiveFile) -> list[Fault]:
    """Texts that somebody must still write."""
    plain = file.objective.model_dump(mode="json")
    return [
        Fault(file.line_of(path), f"`{path}` still begins with {FILL_IN}", _hint(path))
        for path, text in _texts(plain, "")
        if text.startswith(FILL_IN)
    ]


def _hint(path: str) -> str:
    return _ASKED.get(path.rpartition(".")[2], "write what is meant in its place")


def _texts(plain: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of the objective, with the path of its key."""
    if isinstance(plain, str):
        yield path, plain
    parts = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in parts:
        yield from _texts(value, f"{path}.{key}" if path else str(key))


def _licence_faults(file: ObjectiveFile) -> list[Fault]:
    use, faults = file.objective.business.use, []
    for index, source in enumerate(file.objective.data):
        if why := clash(source.source.license, use):
            message = f"the licence {source.source.license[:60]} of {source.path} clashes with `business.use: {use}`: {why}"
            hint = "leave the source out, agree on other terms with its owner, or set `business.use` to what the result is really for"
            faults.append(Fault(file.line_of(f"data.{index}.source.license"), message, hint, LICENSE_CLASH))
    return faults


def _messages_faults(file: ObjectiveFile) -> list[Fault]:
    task = file.objective.task
    if task.learn == "all" and not any(source.messages for source in file.objective.data):
        hint = "name the column of turns, `messages`, under `data`; or remove `learn`"
        return [Fault(file.line_of("task.learn"), "`learn: all` is about conversations, and no source has any", hint)]
    alone = [index for index, source in enumerate(file.objective.data) if source.tools and not source.messages]
    hint = "name the column of turns, `messages`, beside it; or remove `tools`"
    faults = [Fault(file.line_of(f"data.{index}.tools"), "`tools` are offered in conversations", hint) for index in alone]
    if not task.learn_tool_calls and not any(source.tools for source in file.objective.data):
        hint = "name the column of functions, `tools`, under `data`; or remove `learn_tool_calls`"
        faults.append(Fault(file.line_of("task.learn_tool_calls"), "`learn_tool_calls` is about calls, and no source offers tools", hint))
    if task.kind is TaskKind.GENERATE or faults:
        return faults
    named = [index for index, source in enumerate(file.objective.data) if source.messages]
    hint = "use kind: generate, or name `text` and `label`"
    return [Fault(file.line_of(f"data.{index}.messages"), "conversations are answered, not labelled", hint) for index in named]


_EXCEPT = 'exceptions: [{{rule: {rule}, by: NAME, because: "..."}}]'


def people_faults(file: ObjectiveFile) -> list[Fault]:
    """What the tier ``high`` demands and the objective lacks; exceptions that are none.

    An answer that does harm when it is wrong must be held back where the model is not sure of it. That needs one probability an answer
    (``referral``), which only ``kind: classify, labels: one`` has. A generating model may be taught to hand over instead, and must then be
    proven to do so (``referral_recall``). Where a task has neither, nothing holds an answer back: that is an exception, and somebody takes
    it by name. Label review needs answers that people can read side by side; an order of documents is none.
    """
    return [*_demanded(file), *_needless(file)]


def _demanded(file: ObjectiveFile) -> list[Fault]:
    objective, line = file.objective, file.line_of("business.risk")
    if objective.business.risk is not RiskTier.HIGH:
        return []
    answers, faults = answers_of(objective.task), list[Fault]()
    if objective.referral is None and not objective.excepts("referral"):
        named = _EXCEPT.format(rule="referral")
        if answers is AnswerKinds.LABEL:
            what = "the tier high demands that answers which are not sure enough are left to people"
            faults.append(Fault(line, what, f"add `referral: {{max_error: 0.05}}`, or name who decided otherwise: `{named}`"))
        elif answers is AnswerKinds.TEXT:
            what = "the tier high demands that answers are left to people where the model should not give one"
            hint = 'add `referral: {pattern: "..."}`, which occurs in an answer that hands over, and a KPI on referral_recall'
            faults.append(Fault(line, what, f"{hint}; or name who decided otherwise: `{named}`"))
        else:
            what = f"the tier high demands that unsure answers are left to people, which a task of {answers.value} cannot tell"
            faults.append(Fault(line, what, f"name who decided to go without, and what stands in its place: `{named}`"))
    if objective.referral is not None and answers is AnswerKinds.TEXT and "referral_recall" not in {kpi.metric for kpi in objective.kpis}:
        what = "the tier high demands proof that what is for people reaches them"
        faults.append(Fault(file.line_of("referral"), what, "add a KPI: `{metric: referral_recall, target: 0.9}`"))
    if answers is AnswerKinds.RANKING and not objective.excepts("label_review"):
        what = "the tier high demands that people judge answers before a release, and an order of documents cannot be shown to them"
        faults.append(Fault(line, what, f"name who decided to go without: `{_EXCEPT.format(rule='label_review')}`"))
    return faults


def _needless(file: ObjectiveFile) -> list[Fault]:
    objective, faults = file.objective, list[Fault]()
    for index, exception in enumerate(objective.exceptions):
        line = file.line_of(f"exceptions.{index}")
        if objective.business.risk is not RiskTier.HIGH:
            what = f"an exception from {exception.rule}, which only the tier high demands"
            faults.append(Fault(line, what, "remove it, or set `business.risk: high`"))
        elif exception.rule == "referral" and objective.referral is not None:
            faults.append(Fault(line, "an exception from referral, and `referral` is set", "keep one of the two"))
        elif exception.rule in [other.rule for other in objective.exceptions[:index]]:
            faults.append(Fault(line, f"the exception from {exception.rule} is named twice", "keep one of the two"))
    return faults


def check_labels(file: ObjectiveFile, manifest: SnapshotManifest) -> None:
    """Raises ObjectiveInvalid at the line of each metric of a label that the data lacks, with the nearest label."""
    objective, faults = file.objective, []
    named = [(f"the KPI {kpi.metric}", kpi.metric, f"kpis.{index}.metric") for index, kpi in enumerate(objective.kpis)]
    named += [(f"`compare_on: {objective.compare_on}`", objective.compare_on, "compare_on")] if objective.compare_on else []
    named += [
        (f"the margin of {name}", name, f"margin.{name}") for name in (objective.margin if isinstance(objective.margin, dict) else ())
    ]
    for what, metric, path in named:
        label = label_of(metric)
        if label is not None and label == manifest.outside:
            message = f"{what} is on {label!r}, which is no label: it stands for what none of them fits"
            faults.append(Fault(file.line_of(path), message, "name `out_of_scope_answered`, `known_refused` or `out_of_scope_auroc`"))
        elif label is not None and label not in manifest.label_counts:
            message = f"{what} is on the label {label!r}, which the data does not have"
            faults.append(Fault(file.line_of(path), message, _label_hint(label, manifest.labels)))
    raise_faults(file.source, faults + _level_faults(file, manifest))


def _level_faults(file: ObjectiveFile, manifest: SnapshotManifest) -> list[Fault]:
    """Levels that the data has and the order does not; one that no row bears yet may stand in it."""
    order = file.objective.task.label_order
    left_out = [label for label in manifest.labels if label not in order] if order else []
    if not left_out:
        return []
    listed = ", ".join(repr(label[:40]) for label in left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
    what = f"`label_order` does not name {listed}, which the data has"
    return [Fault(file.line_of("task.label_order"), what, _label_hint(left_out[0], order).replace("the data has", "it names"))]


def _label_hint(label: str, labels: tuple[str, ...]) -> str:
    near = nearest(label, labels)
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return f"did you mean {near!r}? the data has: {shown}" if near else f"the data has: {shown}"
