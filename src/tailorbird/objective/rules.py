"""Rules for a well-formed objective, beyond its schema: a table of rules, and the few that a row of it cannot say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tailorbird.chat.templates import TEMPLATES
from tailorbird.domain.dataset import SnapshotManifest, clash
from tailorbird.domain.errors import InvalidInput, ObjectiveInvalid
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import FILL_IN, DataSource, EncoderWishes, Objective, RiskTier, TaskKind
from tailorbird.domain.prompt import ReleaseName
from tailorbird.evaluation.metrics import (
    CATALOGUE,
    SCOPE_METRICS,
    AnswerKinds,
    answers_of,
    base_of,
    first_compared,
    label_of,
    metrics_for,
    parse_metric,
    spec_of_metric,
)
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.text.dates import time_of
from tailorbird.text.regex import check_pattern
from tailorbird.text.words import nearest

LICENSE_CLASH = "license_clash"
#: Code of a refusal to look for requests out of scope where labels do not exclude one another, or where there are none.
SCOPE_TASK = "out_of_scope_task"

_WRITING = (
    RungKind.PROMPT,
    RungKind.NEAREST,
    RungKind.GROUNDING,
    RungKind.HOSTED,
    RungKind.PROMPT_SEARCH,
    RungKind.LORA,
    RungKind.QLORA,
    RungKind.GROUNDED_LORA,
    RungKind.FULL,
)
#: The ways to adapt that fit a task, in the order of their cost; the floor is none of them.
RUNGS_FOR = {
    TaskKind.CLASSIFY: (RungKind.ENCODER, *_WRITING),
    TaskKind.GENERATE: _WRITING,
    TaskKind.RANK: (RungKind.SEARCH, RungKind.BI_ENCODER, RungKind.CROSS_ENCODER),
}
_DECIDING = (Role.APPROVER.value, Role.REVIEWER.value)


class _KeyRule(NamedTuple):
    """What is ``wrong`` with the key at ``path``: a function of the objective, and, where ``*`` in the path stands for each entry of a
    list, of entry and index. In texts KIND stands for the task's kind, ANSWERS for what it answers with, RUNGS for those that fit
    it, FOUND for what ``wrong`` returned. The hint names the one of ``known`` that is nearest to that."""

    path: str
    wrong: Callable[..., object]
    what: str
    hint: str
    code: str = ObjectiveInvalid.code
    known: tuple[str, ...] = ()


def _is(*kinds: TaskKind) -> Callable[[Objective], bool]:
    return lambda objective: objective.task.kind in kinds


def _climbs(objective: Objective, *rungs: RungKind) -> bool:
    """True where the ladder may hold one of ``rungs``."""
    return objective.ladder == "auto" or not set(rungs).isdisjoint(objective.ladder)


def _lists(objective: Objective, rung: RungKind) -> bool:
    return objective.ladder != "auto" and rung in objective.ladder


def _grounds(objective: Objective) -> bool:
    return objective.grounding.encoder is not None


def _encoder_release(o: Objective) -> ReleaseName | None:
    return None if o.grounding.encoder is None or _RANK(o) else ReleaseName.of(o.grounding.encoder)


def _is_risky(o: Objective, rule: str, *kinds: AnswerKinds) -> bool:
    """True where the tier high demands what ``rule`` names, of a task that answers like this, and nobody took the exception."""
    return o.business.risk is RiskTier.HIGH and answers_of(o.task) in kinds and not o.excepts(rule)


def _clashing(o: Objective, source: DataSource, _: int) -> str:
    why = clash(source.source.license, o.business.use)
    return f"{source.source.license[:60]} of {source.path} clashes with `business.use: {o.business.use}`: {why}" if why else ""


def _referral_key(o: Objective) -> str | None:
    """What a referral is told by: a label is referred for its probability, a generated answer for what it says."""
    return {AnswerKinds.LABEL: "max_error", AnswerKinds.TEXT: "pattern"}.get(answers_of(o.task))


def _may_floor(o: Objective, rung: RungKind) -> bool:
    return rung is RungKind.FLOOR and _CLASSIFY(o)


def _did_you_mean(name: str, known: tuple[str, ...]) -> str:
    near = nearest(name, known)
    return f"did you mean {near!r}? " if near else ""


_EXCEPT = 'exceptions: [{rule: RULE, by: NAME, because: "..."}]'
_NO_REFERRAL, _NO_REVIEW = _EXCEPT.replace("RULE", "referral"), _EXCEPT.replace("RULE", "label_review")
_SHARED = 'remove it, or write the objective for many tenants: tenant: "{tenant}"'
_SCOPE = "add `out_of_scope: {refuse_known_at_most: 0.05}` under `task`"
_REFERRALS = {"max_error": "`referral: {max_error: 0.05}`", "pattern": '`referral: {pattern: "a colleague will"}`'}
_CLASSIFY, _GENERATE, _RANK = _is(TaskKind.CLASSIFY), _is(TaskKind.GENERATE), _is(TaskKind.RANK)


def _kind_rule(path: str, *kinds: TaskKind, code: str = ObjectiveInvalid.code) -> _KeyRule:
    """A key that means something for tasks of ``kinds`` alone."""

    def given(objective: Objective) -> bool:
        value: Any = objective
        default = None
        for name in path.split("."):
            default = type(value).model_fields[name].get_default(call_default_factory=True)
            value = getattr(value, name)
        return objective.task.kind not in kinds and value != default

    fitting = " or ".join(kind.value for kind in kinds)
    return _KeyRule(path, given, f"`{path}` is for kind: {fitting}, and this task is of kind KIND", "remove it, or use that kind", code)


_WRITES = (TaskKind.CLASSIFY, TaskKind.GENERATE)
#: Of the rules of one path the first that is broken is shown.
_RULES = (
    _kind_rule("task.labels", TaskKind.CLASSIFY),
    _kind_rule("floor.vectors", TaskKind.CLASSIFY),
    _kind_rule("teacher", TaskKind.CLASSIFY),
    _kind_rule("task.out_of_scope", TaskKind.CLASSIFY, code=SCOPE_TASK),
    _kind_rule("task.thinking", TaskKind.GENERATE),
    _kind_rule("task.format", TaskKind.GENERATE),
    *(
        _kind_rule(path, *_WRITES)
        for path in ("grounding", "hosted", "chat_template", "encoder.model", "limits.retention", "limits.memorisation")
    ),
    _KeyRule(
        "task.kind", lambda o: _RANK(o) and not o.documents, "a task of kind rank names no documents", "add `documents:` to be ranked"
    ),
    _KeyRule(
        "task.label_order",
        lambda o: o.task.label_order and answers_of(o.task) is not AnswerKinds.LABEL,
        "`label_order` fits no task of ANSWERS",
        "remove it: it works with kind: classify, labels: one",
    ),
    _KeyRule(
        "task.label_order",
        lambda o: 0 < len(o.task.label_order) < 3,
        "an order takes three labels and more: of two, each is one level off",
        "name all labels, or remove it",
    ),
    _KeyRule(
        "task.label_order",
        lambda o: next((repr(label) for place, label in enumerate(o.task.label_order) if label in o.task.label_order[:place]), ""),
        "the label FOUND stands twice in `label_order`",
        "name each label once, from the lowest to the highest",
    ),
    _KeyRule(
        "limits.memorisation",
        lambda o: o.task.thinking and o.limits.memorisation is not None,
        "planted strings are learned without reasoning before them: what a model that reasons has memorised is not measured by them",
        "remove `limits.memorisation`, or `thinking`",
    ),
    _KeyRule(
        "task.format",
        lambda o: o.task.format and o.task.format.json_keys is None and o.task.format.pattern is None,
        "`task.format` asks for nothing",
        "give `json_keys` or `pattern`",
    ),
    _KeyRule(
        "task.learn",
        lambda o: o.task.learn == "all" and not any(source.messages for source in o.data),
        "`learn: all` is about conversations, and no source has any",
        "name the column of turns, `messages`, under `data`; or remove `learn`",
    ),
    _KeyRule(
        "task.learn_tool_calls",
        lambda o: not o.task.learn_tool_calls and not any(source.tools for source in o.data),
        "`learn_tool_calls` is about calls, and no source offers tools",
        "name the column of functions, `tools`, under `data`; or remove `learn_tool_calls`",
    ),
    _KeyRule(
        "chat_template",
        lambda o: (
            repr(o.chat_template) if o.chat_template and o.chat_template not in TEMPLATES and not o.chat_template.endswith(".jinja") else ""
        ),
        "no chat template is called FOUND",
        f"known are {', '.join(TEMPLATES)}; or give the path of a .jinja file",
        "chat_template_unknown",
        tuple(TEMPLATES),
    ),
    _KeyRule(
        "grounding",
        lambda o: _grounds(o) and not o.documents,
        "`grounding` finds passages of documents, and none are named",
        "add `documents:`, or remove `grounding`",
    ),
    _KeyRule(
        "grounding",
        lambda o: _grounds(o) and not _climbs(o, RungKind.GROUNDING, RungKind.GROUNDED_LORA),
        "`grounding` says how passages are found, and no rung of the ladder quotes any",
        "add grounding to the ladder, or remove the section",
    ),
    _KeyRule(
        "grounding.encoder",
        lambda o: o.grounding.encoder is not None and not _RANK(o) and _encoder_release(o) is None,
        "`grounding.encoder` is neither an alias nor the digest of a release",
        "write the alias of a release (acme/search), or its digest (sha256:..., or 12 digits of it or more)",
    ),
    _KeyRule(
        "grounding.encoder",
        lambda o: (
            f"{named.tenant}, and the objective belongs to {o.tenant}"
            if (named := _encoder_release(o)) is not None and named.tenant not in ("", o.tenant)
            else ""
        ),
        "`grounding.encoder` is a release of the tenant FOUND",
        "name a release of the objective's own tenant: nothing of one tenant is used by another",
        "other_tenant",
    ),
    _KeyRule(
        "grounding.encoder",
        lambda o: (named := _encoder_release(o)) is not None and named.name == o.name,
        "`grounding.encoder` is the alias of this very objective",
        "name the alias of an objective of kind rank",
    ),
    _KeyRule(
        "task.out_of_scope",
        lambda o: o.task.out_of_scope and o.task.labels == "many",
        "an item that may bear several labels may bear none of them: that is the answer to what is out of scope",
        "remove `out_of_scope`, and label such rows `none`; or use labels: one",
        SCOPE_TASK,
    ),
    _KeyRule(
        "data.*.out_of_scope",
        lambda o, source, _: source.out_of_scope and o.task.out_of_scope is None,
        "the source holds what none of the labels fits, and the task refuses nothing",
        _SCOPE,
    ),
    _KeyRule(
        "kpis.*.metric",
        lambda o, kpi, _: (
            kpi.metric if kpi.metric in SCOPE_METRICS and not o.task.out_of_scope and answers_of(o.task) is AnswerKinds.LABEL else ""
        ),
        "FOUND is about refusing requests, and the task refuses none",
        _SCOPE,
    ),
    _KeyRule(
        "live_kpis.*",
        lambda o, kpi, place: repr(kpi.metric) if kpi.metric in [other.metric for other in o.live_kpis[:place]] else "",
        "the live KPI FOUND is listed twice",
        "keep one of the two",
    ),
    _KeyRule(
        "referral",
        lambda o: o.referral and _referral_key(o) is None,
        "`referral` fits no task of ANSWERS",
        "remove it: it works with kind: classify, labels: one, and with kind: generate",
    ),
    *(
        _KeyRule(
            "referral",
            lambda o, key=key: (
                o.referral and _referral_key(o) == key and [name for name in _REFERRALS if getattr(o.referral, name) is not None] != [key]
            ),
            f"`referral` of a task of ANSWERS is told by `{key}` alone",
            f"write {example}",
        )
        for key, example in _REFERRALS.items()
    ),
    # An answer that does harm when it is wrong must be held back where the model is not sure of it. That needs one probability an answer,
    # which only ``kind: classify, labels: one`` has. A generating model may be taught to hand over instead, and must then be proven to do
    # so. Where a task has neither, nothing holds an answer back: that is an exception, and somebody takes it by name.
    _KeyRule(
        "business.risk",
        lambda o: o.referral is None and _is_risky(o, "referral", AnswerKinds.LABEL),
        "the tier high demands that answers which are not sure enough are left to people",
        f"add `referral: {{max_error: 0.05}}`, or name who decided otherwise: `{_NO_REFERRAL}`",
    ),
    _KeyRule(
        "business.risk",
        lambda o: o.referral is None and _is_risky(o, "referral", AnswerKinds.TEXT),
        "the tier high demands that answers are left to people where the model should not give one",
        'add `referral: {pattern: "..."}`, which occurs in an answer that hands over, and a KPI on referral_recall; '
        f"or name who decided otherwise: `{_NO_REFERRAL}`",
    ),
    _KeyRule(
        "business.risk",
        lambda o: o.referral is None and _is_risky(o, "referral", AnswerKinds.LABELS, AnswerKinds.RANKING),
        "the tier high demands that unsure answers are left to people, which a task of ANSWERS cannot tell",
        f"name who decided to go without, and what stands in its place: `{_NO_REFERRAL}`",
    ),
    # Label review needs answers that people can read side by side. A path of its own: both demands are shown, on the line of the tier.
    _KeyRule(
        "business.risk.label_review",
        lambda o: _is_risky(o, "label_review", AnswerKinds.RANKING),
        "the tier high demands that people judge answers before a release, and an order of documents cannot be shown to them",
        f"name who decided to go without: `{_NO_REVIEW}`",
    ),
    _KeyRule(
        "referral",
        lambda o: (
            o.business.risk is RiskTier.HIGH
            and o.referral
            and answers_of(o.task) is AnswerKinds.TEXT
            and "referral_recall" not in {kpi.metric for kpi in o.kpis}
        ),
        "the tier high demands proof that what is for people reaches them",
        "add a KPI: `{metric: referral_recall, target: 0.9}`",
    ),
    _KeyRule(
        "exceptions.*",
        lambda o, exception, _: exception.rule if o.business.risk is not RiskTier.HIGH else "",
        "an exception from FOUND, which only the tier high demands",
        "remove it, or set `business.risk: high`",
    ),
    _KeyRule(
        "exceptions.*",
        lambda o, exception, _: exception.rule == "referral" and o.referral,
        "an exception from referral, and `referral` is set",
        "keep one of the two",
    ),
    _KeyRule(
        "exceptions.*",
        lambda o, exception, place: exception.rule if exception.rule in [other.rule for other in o.exceptions[:place]] else "",
        "the exception from FOUND is named twice",
        "keep one of the two",
    ),
    _KeyRule(
        "ladder",
        lambda o: o.hosted is None and _lists(o, RungKind.HOSTED),
        "the ladder lists the rung hosted, and nothing says which model is asked",
        "add `hosted: {endpoint: NAME, model: NAME}`",
    ),
    _KeyRule(
        "ladder",
        lambda o: not o.ladder,
        "the ladder has no rung",
        "write auto, or a list of: RUNGS",
    ),
    _KeyRule(
        "ladder.*",
        lambda o, rung, _: _may_floor(o, rung) and o.floor.role == "reference",
        "the ladder lists the floor, and `floor: reference` keeps it from being released",
        "remove one of the two",
    ),
    _KeyRule(
        "ladder.*",
        lambda o, rung, _: repr(rung.value) if not _may_floor(o, rung) and rung not in RUNGS_FOR[o.task.kind] else "",
        "the rung FOUND does not fit a task of kind KIND",
        "rungs are: RUNGS",
    ),
    _KeyRule(
        "ladder.*",
        lambda o, rung, place: repr(rung.value) if rung in o.ladder[:place] else "",
        "the rung FOUND is listed twice",
        "keep one of the two",
    ),
    _KeyRule(
        "hosted",
        lambda o: o.hosted and not _climbs(o, RungKind.HOSTED),
        "`hosted` names a model, and the ladder does not list the rung",
        "add hosted to the ladder, or remove the section",
    ),
    _KeyRule(
        "prompt_search",
        lambda o: o.prompt_search.calls != "auto" and not _lists(o, RungKind.PROMPT_SEARCH),
        "`prompt_search` says how long a prompt is searched, and the ladder does not list the rung prompt-search",
        "add prompt-search to the ladder, or remove the section",
    ),
    _KeyRule(
        "encoder",
        lambda o: (o.encoder.method, o.encoder.rank) != (EncoderWishes().method, EncoderWishes().rank) and not _lists(o, RungKind.ENCODER),
        "`encoder` says how an encoder is tuned, and the ladder does not list the rung encoder",
        "add encoder to the ladder, or remove the section",
    ),
    _KeyRule(
        "encoder.rank",
        lambda o: o.encoder.rank != "auto" and o.encoder.method == "full",
        "`encoder.rank` is the rank of an adapter, and all weights are to be tuned",
        "add `method: lora`, or remove `rank`",
    ),
    _KeyRule(
        "approvals.*",
        lambda _, name, __: repr(name) if name not in _DECIDING else "",
        "FOUND is no role that decides",
        f"roles: {', '.join(_DECIDING)}",
        known=_DECIDING,
    ),
    _KeyRule(
        "data.*.label",
        lambda o, source, _: not isinstance(source.label, str) and not _CLASSIFY(o),
        "a task of kind KIND has no labels, of which each could have a column",
        "name the one column of answers, or use kind: classify",
    ),
    _KeyRule(
        "data.*.split_column",
        lambda _, source, __: source.split and source.split_column,
        "`split` puts the whole source into one split, and `split_column` says another for each row",
        "remove one of them",
    ),
    _KeyRule(
        "data.*.source.generated",
        lambda _, source, __: source.source.generated and source.split != "train",
        "rows that a model has labelled are learned from, and never measured on",
        "write `split: train` for the source",
    ),
    _KeyRule(
        "data.*.source.license",
        _clashing,
        "the licence FOUND",
        "leave the source out, agree on other terms with its owner, or set `business.use` to what the result is really for",
        LICENSE_CLASH,
    ),
    _KeyRule(
        "data.*.tools",
        lambda _, source, __: source.tools and not source.messages,
        "`tools` are offered in conversations",
        "name the column of turns, `messages`, beside it; or remove `tools`",
    ),
    _KeyRule(
        "data.*.messages",
        lambda o, source, _: source.messages and not _GENERATE(o),
        "conversations are answered, not labelled",
        "use kind: generate, or name `text` and `label`",
    ),
    _KeyRule(
        "limits.shift",
        lambda o: o.limits.shift and o.split is None,
        "`limits.shift` needs to know which rows have shifted",
        "add `split: {by: COLUMN}`: a column of times, sources or customers that every row has",
    ),
    _KeyRule(
        "split.since",
        lambda o: o.split and o.split.since is not None and (o.split.values or o.split.kind == "value"),
        "`since` is a time, and rows are split by values",
        "keep one of `since` and `values`",
    ),
    _KeyRule(
        "split.since",
        lambda o: o.split and isinstance(o.split.since, str) and time_of(o.split.since) is None,
        "`since` is no time",
        "write YYYY-MM-DD, with hours where you like",
    ),
    _KeyRule(
        "split.values",
        lambda o: o.split and o.split.values and o.split.kind == "time",
        "`values` are listed, and rows are split by time",
        "use `since`, or `kind: value`",
    ),
)
#: Of an objective of one tenant alone.
_OWN_RULES = tuple(
    _KeyRule(
        f"{section}.*.shared",
        lambda o, source, _: o.tenant if source.shared else "",
        "`shared` is said between tenants, and the objective is of FOUND alone",
        _SHARED,
    )
    for section in ("data", "documents")
)


def _broken_rules(file: ObjectiveFile) -> Iterator[Fault]:
    objective, seen = file.objective, set[str]()
    for rule in _RULES if file.for_tenants else _RULES + _OWN_RULES:
        section, several, _ = rule.path.partition(".*")
        entries = getattr(objective, section) if several else ()
        found = [(rule.path.replace("*", str(at)), rule.wrong(objective, each, at)) for at, each in enumerate(entries) if entries != "auto"]
        for path, wrong in found if several else [(rule.path, rule.wrong(objective))]:
            if wrong and path not in seen:
                seen.add(path)
                rungs = ", ".join(rung.value for rung in RUNGS_FOR[objective.task.kind])
                kind, answers = objective.task.kind.value, answers_of(objective.task).value
                what, hint = rule.what, _did_you_mean(str(wrong).strip("'"), rule.known) + rule.hint
                for word, text in (("KIND", kind), ("ANSWERS", answers), ("RUNGS", rungs), ("FOUND", str(wrong))):
                    what, hint = what.replace(word, text), hint.replace(word, text)
                yield Fault(file.line_of(path), what, hint, rule.code)


def faults_of(file: ObjectiveFile) -> list[Fault]:
    """Everything in the objective that cannot be pursued."""
    return [
        *_broken_rules(file),
        *_kpi_faults(file),
        *_comparison_faults(file),
        *_lacking(file),
        *_pattern_faults(file),
        *_base_faults(file),
        *_open_faults(file),
    ]


def _kpi_faults(file: ObjectiveFile) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for index, kpi in enumerate(file.objective.kpis):
        line = file.line_of(f"kpis.{index}.metric")
        if kpi.metric in seen:
            yield Fault(line, f"the metric {kpi.metric!r} has a target already, on line {seen[kpi.metric]}", "keep one of the two")
            continue
        seen[kpi.metric] = line
        if faults := _metric_faults(kpi.metric, answers_of(file.objective.task), line):
            yield from faults
            continue
        highest = spec_of_metric(kpi.metric).highest
        if 0 < kpi.target <= highest:
            continue
        what = "a share between 0 and 1" if highest == 1 else f"more than 0 and at most {highest:g} nats"
        hint = f"the nearest valid value is {highest:g}" if kpi.target > 0 else "write a number above 0, such as the value reached today"
        if highest == 1 and 2 <= kpi.target <= 100:
            hint = f"write {kpi.target / 100:g} for {kpi.target:g} %"
        yield Fault(file.line_of(f"kpis.{index}.target"), f"the target of {kpi.metric} must be {what}, not {kpi.target:g}", hint)


def _metric_faults(metric: str, answers: AnswerKinds, line: int) -> list[Fault]:
    try:
        base = parse_metric(metric).base
    except ObjectiveInvalid as error:
        return [Fault(line, error.message, error.hint)]
    if answers in CATALOGUE[base].answers:
        return []
    message = f"metric {metric!r} does not fit a task of {answers.value}"
    return [Fault(line, message, f"use one of: {', '.join(metrics_for(answers))}")]


#: Limits and readings that are no metric of answers, by which somebody might want to compare.
_NOT_COMPARED = ("latency_p95_ms", "cost_per_1k_requests", "tokens_per_request", "retention", "memorisation")


def _comparison_faults(file: ObjectiveFile) -> list[Fault]:
    """A metric in which no two candidates can be compared; a margin that no difference can reach, or of a metric that does not fit."""
    objective, answers = file.objective, answers_of(file.objective.task)
    metric, line = objective.compare_on, file.line_of("compare_on")
    compared = ", ".join(name for name in metrics_for(answers) if name not in SCOPE_METRICS)
    if metric in SCOPE_METRICS:
        what = f"candidates are not compared on {metric}: it rests on other rows than their answers do"
        return [Fault(line, what, f"put a target on it under `kpis`, and compare on one of: {compared}")]
    if metric in _NOT_COMPARED:
        what = f"candidates are not compared on {metric}: it is a limit that each must keep, and no measure of its answers"
        return [Fault(line, what, f"use one of: {compared}; put a bound on {metric} under `limits`")]
    faults = _metric_faults(metric, answers, line) if metric else []
    for name, margin in objective.margin.items() if isinstance(objective.margin, dict) else ():
        at, spec = file.line_of(f"margin.{name}"), CATALOGUE.get(name)
        if name in SCOPE_METRICS:
            faults.append(Fault(at, f"candidates are not compared on {name}, so that it has no margin", "remove it"))
            continue
        of_all_labels = f"{name}[label]" if spec is not None and spec.labelled else name
        faults += _metric_faults(of_all_labels, answers, at) or _margin_faults(f"margin.{name}", margin, name, at)
    stated_in = metric or first_compared(kpi.metric for kpi in objective.kpis)
    if not isinstance(objective.margin, dict) and base_of(stated_in) in CATALOGUE:
        faults += _margin_faults("margin", objective.margin, stated_in, file.line_of("margin"))
    return faults


def _margin_faults(path: str, margin: float, metric: str, line: int) -> list[Fault]:
    """Half of the way from one end of the metric to the other is more than any two candidates can be asked to differ by."""
    spec = spec_of_metric(metric)
    most = spec.highest / 2
    if margin <= most:
        return []
    of = "" if spec.unit == "share" else f" ({spec.unit} of {spec.name})"
    return [Fault(line, f"`{path}` must be at most {most:g}{of}, not {margin:g}", f"the nearest valid value is {most:g}")]


class _Need(NamedTuple):
    """What metrics need to be measured: whether the objective says it, and what to do where it does not."""

    metrics: tuple[str, ...]
    has: Callable[[Objective], object]
    what: str
    hint: str


_NEEDS = (
    _Need(
        ("coverage", "selective_risk", "referral_recall", "referral_precision"),
        lambda o: o.referral,
        "needs to know which answers are left to people",
        "add REFERRAL",
    ),
    _Need(
        ("tool_call_accuracy",),
        lambda o: any(source.tools for source in o.data),
        "is about conversations that offer functions, and no source has any",
        "name `tools` under `data`",
    ),
    _Need(
        ("ordinal_score", "within_one"),
        lambda o: o.task.label_order,
        "needs to know the order of the labels",
        "add `label_order: [lowest, ..., highest]` under `task`",
    ),
    _Need(
        ("groundedness",),
        lambda o: o.documents,
        "is measured against passages of documents, and none are named",
        "add `documents:`",
    ),
    _Need(
        ("format_valid",), lambda o: o.task.format, "needs to know the form", "add `format: {json_keys: [...]}` or a `pattern` under `task`"
    ),
    _Need(
        ("field_score",),
        lambda o: o.task.format and o.task.format.json_keys is not None,
        "is of answers that are JSON objects",
        "add `format: {json_keys: [...]}` under `task`",
    ),
)


def _lacking(file: ObjectiveFile) -> Iterator[Fault]:
    """Metrics that rest on a key which is not there."""
    objective = file.objective
    named = [(kpi.metric, f"kpis.{index}.metric") for index, kpi in enumerate(objective.kpis)]
    for metric, path in [*named, *([(objective.compare_on, "compare_on")] if objective.compare_on else [])]:
        for need in _NEEDS:
            if metric in need.metrics and not need.has(objective):
                example = _REFERRALS[_referral_key(objective) or "max_error"]
                yield Fault(file.line_of(path), f"{metric} {need.what}", need.hint.replace("REFERRAL", example))


def _pattern_faults(file: ObjectiveFile) -> Iterator[Fault]:
    """Patterns that cannot be searched for in bounded time."""
    form, referral = file.objective.task.format, file.objective.referral
    for path, pattern in (("task.format.pattern", form and form.pattern), ("referral.pattern", referral and referral.pattern)):
        try:
            check_pattern(pattern or "")
        except InvalidInput as error:
            yield Fault(file.line_of(path), f"`{path}`: {error.message}", error.hint, error.error_code)


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


#: What is written in place of a text that is still open, by the last part of its key.
_OPEN = {
    "origin": 'write whose data it is, in its place: "mails to our support desk, 2024"',
    "license": 'write on what terms it may be used, in its place: an SPDX name as CC-BY-4.0, or "proprietary, our own"',
    "consent": 'write what the people behind it agreed to, in its place: "terms of service, section 4", or "not needed: ..."',
}


def _open_faults(file: ObjectiveFile) -> Iterator[Fault]:
    """Texts that somebody must still write."""

    def texts(plain: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(plain, str):
            yield path, plain
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ():
            yield from texts(value, f"{path}.{key}" if path else str(key))

    for path, text in texts(file.objective.model_dump(mode="json"), ""):
        if text.startswith(FILL_IN):
            hint = _OPEN.get(path.rpartition(".")[2], "write what is meant in its place")
            yield Fault(file.line_of(path), f"`{path}` still begins with {FILL_IN}", hint)


def check_labels(file: ObjectiveFile, manifest: SnapshotManifest) -> None:
    """Raises ObjectiveInvalid at the line of each metric of a label that the data lacks, with the nearest label; and where labels of the
    data are missing in their order. One in the order that no row bears yet may stand there."""
    objective, faults = file.objective, list[Fault]()

    def hint(label: str, labels: tuple[str, ...], who: str) -> str:
        shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
        return f"{_did_you_mean(label, labels)}{who}: {shown}"

    named = [(f"the KPI {kpi.metric}", kpi.metric, f"kpis.{index}.metric") for index, kpi in enumerate(objective.kpis)]
    named += [(f"`compare_on: {objective.compare_on}`", objective.compare_on, "compare_on")] if objective.compare_on else []
    margins = objective.margin if isinstance(objective.margin, dict) else ()
    for what, metric, path in [*named, *((f"the margin of {name}", name, f"margin.{name}") for name in margins)]:
        label = label_of(metric)
        if label is not None and label == manifest.outside:
            message = f"{what} is on {label!r}, which is no label: it stands for what none of them fits"
            faults.append(Fault(file.line_of(path), message, "name `out_of_scope_answered`, `known_refused` or `out_of_scope_auroc`"))
        elif label is not None and label not in manifest.label_counts:
            message = f"{what} is on the label {label!r}, which the data does not have"
            faults.append(Fault(file.line_of(path), message, hint(label, manifest.labels, "the data has")))
    order = objective.task.label_order
    left_out = [label for label in manifest.labels if label not in order] if order else []
    if left_out:
        listed = ", ".join(repr(label[:40]) for label in left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        what = f"`label_order` does not name {listed}, which the data has"
        faults.append(Fault(file.line_of("task.label_order"), what, hint(left_out[0], order, "it names")))
    raise_faults(file.source, faults)
