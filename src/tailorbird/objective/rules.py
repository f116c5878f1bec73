"""Validation rules for a well-formed objective: targets, limits and unsupported combinations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import InvalidInput, ObjectiveInvalid
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import FILL_IN, AnswerFormat, DataSource, DocumentSource, Kpi, RiskTier, TaskKind
from tailorbird.domain.prompt import ReleaseName
from tailorbird.domain.rung_wishes import EncoderWishes
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, answers_of, metrics_for, parse_metric, rungs_for
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.objective.power import shift_faults
from tailorbird.stats.metric_direction import MEASURES, SCOPE_METRICS, base_of, first_compared, label_of
from tailorbird.text.data_licences import clash
from tailorbird.text.known_templates import TEMPLATES
from tailorbird.text.normalisation import nearest
from tailorbird.text.regex import check_pattern

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


#: Rungs that quote passages.
_GROUNDED = (RungKind.GROUNDING, RungKind.GROUNDED_LORA)


def grounding_faults(file: ObjectiveFile) -> list[Fault]:
    """Everything under ``grounding`` that nothing could come of."""
    objective, wishes = file.objective, file.objective.grounding
    line = file.line_of("grounding")
    if wishes.encoder is None and not wishes.rewrite:
        return []
    if objective.task.kind is TaskKind.RANK:
        what = "a task of kind rank quotes no passages: it is what `grounding` of another objective may name"
        return [Fault(line, what, "remove `grounding`")]
    faults = []
    if not objective.documents:
        faults.append(Fault(line, "`grounding` finds passages of documents, and none are named", "add `documents:`, or remove `grounding`"))
    if objective.ladder != "auto" and not set(_GROUNDED) & set(objective.ladder):
        what = "`grounding` says how passages are found, and no rung of the ladder quotes any"
        faults.append(Fault(line, what, "add grounding to the ladder, or remove the section"))
    if wishes.rewrite:
        faults += _rewrite_faults(file)
    if wishes.encoder is not None:
        faults += _passage_encoder_faults(file, wishes.encoder)
    return faults


def _rewrite_faults(file: ObjectiveFile) -> list[Fault]:
    objective, line = file.objective, file.line_of("grounding.rewrite")
    if objective.task.kind is not TaskKind.GENERATE:
        what = f"a task of kind {objective.task.kind.value} has no conversations whose last message could be rewritten"
        return [Fault(line, what, "remove `rewrite`, or use kind: generate")]
    if objective.ladder != "auto" and RungKind.GROUNDING not in objective.ladder:
        what = "`rewrite` is a variant of the rung grounding, and the ladder does not list it"
        return [Fault(line, what, "add grounding to the ladder, or remove `rewrite`")]
    return []


def _passage_encoder_faults(file: ObjectiveFile, name: str) -> list[Fault]:
    line, named = file.line_of("grounding.encoder"), ReleaseName.of(name)
    if named is None:
        hint = "write the alias of a release (acme/search), or its digest (sha256:..., or 12 digits of it or more)"
        return [Fault(line, "`grounding.encoder` is neither an alias nor the digest of a release", hint)]
    tenant = file.objective.tenant
    if named.tenant not in ("", tenant):
        what = f"`grounding.encoder` is a release of the tenant {named.tenant}, and the objective belongs to {tenant}"
        return [Fault(line, what, f"name a release of {tenant}: nothing of one tenant is used by another", "other_tenant")]
    if named.name == file.objective.name:
        what = "`grounding.encoder` is the alias of this very objective"
        return [Fault(line, what, "name the alias of an objective of kind rank")]
    return []


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
