"""Catalogue of KPIs that an objective may name.

Only metrics that come with an interval are on offer: a target can be proven only against an interval's end.
"""

from __future__ import annotations

from enum import Enum

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.domain.value import Value
from tailorbird.stats.metric_direction import MEASURES, lower_is_better
from tailorbird.text.normalisation import nearest


class AnswerKinds(Enum):
    """What a task answers with, as an objective writes it: which metrics fit depends on that."""

    LABEL = "kind: classify"
    LABELS = "kind: classify, labels: many"
    TEXT = "kind: generate"
    RANKING = "kind: rank"


def answers_of(task: Task) -> AnswerKinds:
    """Kind of answers of ``task``."""
    if task.kind is TaskKind.CLASSIFY:
        return AnswerKinds.LABELS if task.labels == "many" else AnswerKinds.LABEL
    return AnswerKinds.TEXT if task.kind is TaskKind.GENERATE else AnswerKinds.RANKING


_SPEAKING = (
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


def rungs_for(kind: TaskKind) -> tuple[RungKind, ...]:
    """The ways to adapt that fit a task, in the order of their cost; the floor is none of them."""
    if kind is TaskKind.RANK:
        return (RungKind.SEARCH, RungKind.BI_ENCODER, RungKind.CROSS_ENCODER)
    return (RungKind.ENCODER, *_SPEAKING) if kind is TaskKind.CLASSIFY else _SPEAKING


class MetricSpec(Value):
    """A metric on offer. A target lies in (0, ``highest``]; it is a lower bound, or an upper bound where ``higher_is_better`` is false.

    ``labelled`` metrics are written with a label: ``recall[refund]``. A ``proportion`` is a share of items, so that their number tells what
    can be proven; the others are means or ratios, whose interval comes from a bootstrap. ``of_some`` rests on items that no count of labels
    tells. ``description`` is one sentence.
    """

    name: str
    answers: tuple[AnswerKinds, ...]
    description: str
    labelled: bool = False
    proportion: bool = False
    of_some: bool = False

    @property
    def highest(self) -> float:
        """The largest target that makes sense."""
        return MEASURES[self.name].highest if self.compared else 1.0

    @property
    def compared(self) -> bool:
        """False where no two candidates are compared in it."""
        return self.name in MEASURES

    @property
    def higher_is_better(self) -> bool:
        """False where a target is an upper bound."""
        return not lower_is_better(self.name)

    @property
    def written(self) -> str:
        """The name as an objective writes it."""
        return f"{self.name}[label]" if self.labelled else self.name


class MetricName(Value):
    """A metric's name taken apart: ``recall[refund]`` is base ``recall``, label ``refund``."""

    base: str
    label: str | None = None


_EITHER = (AnswerKinds.LABEL, AnswerKinds.LABELS)

_SPECS = (
    MetricSpec(name="accuracy", answers=(AnswerKinds.LABEL,), proportion=True, description="Share of items that get the right label."),
    MetricSpec(
        name="balanced_accuracy",
        answers=(AnswerKinds.LABEL,),
        description="Mean of all labels' recalls: rare labels count as much as common ones.",
    ),
    MetricSpec(name="macro_f1", answers=_EITHER, description="Mean of all labels' F1, the harmonic mean of precision and recall."),
    MetricSpec(
        name="micro_f1",
        answers=(AnswerKinds.LABELS,),
        description="F1 over all pairs of an item and a label: common labels count as often as they occur.",
    ),
    MetricSpec(name="f1", answers=(AnswerKinds.LABELS,), labelled=True, description="Harmonic mean of this label's precision and recall."),
    MetricSpec(
        name="precision",
        answers=_EITHER,
        labelled=True,
        proportion=True,
        description="Of the items given this label, the share that deserve it.",
    ),
    MetricSpec(
        name="recall",
        answers=_EITHER,
        labelled=True,
        proportion=True,
        description="Of the items that deserve this label, the share that get it.",
    ),
    MetricSpec(
        name="log_loss",
        answers=(AnswerKinds.LABEL,),
        description="Mean negative log-probability of the right label, in nats; the target is an upper bound.",
    ),
    MetricSpec(
        name="brier",
        answers=(AnswerKinds.LABEL,),
        description="Mean squared distance of the probabilities from what came true, 0 to 2; the target is an upper bound.",
    ),
    MetricSpec(
        name="ece",
        answers=(AnswerKinds.LABEL,),
        description="Mean distance between how sure the model says it is and how often it is right; the target is an upper bound.",
    ),
    MetricSpec(
        name="ordinal_score",
        answers=(AnswerKinds.LABEL,),
        description="Mean nearness of an answer to the right level: 1 where it is the same, 0 at the other end; needs `task.label_order`.",
    ),
    MetricSpec(
        name="within_one",
        answers=(AnswerKinds.LABEL,),
        proportion=True,
        description="Share of items whose answer is at most one level off; needs `task.label_order`.",
    ),
    MetricSpec(
        name="coverage",
        answers=(AnswerKinds.LABEL, AnswerKinds.TEXT),
        proportion=True,
        description="Share of items that are answered and not referred to a person; needs `referral`.",
    ),
    MetricSpec(
        name="selective_risk",
        answers=(AnswerKinds.LABEL,),
        description="Share of wrong answers among those that are given; needs `referral`; the target is an upper bound.",
    ),
    MetricSpec(
        name="known_refused",
        answers=(AnswerKinds.LABEL,),
        of_some=True,
        description="Share of items that a label fits and that are refused as out of scope; needs `task.out_of_scope`; the target is an "
        "upper bound.",
    ),
    MetricSpec(
        name="out_of_scope_answered",
        answers=(AnswerKinds.LABEL,),
        of_some=True,
        description="Share of examples out of scope that get a label all the same; needs `task.out_of_scope` and examples; "
        "the target is an upper bound.",
    ),
    MetricSpec(
        name="out_of_scope_auroc",
        answers=(AnswerKinds.LABEL,),
        of_some=True,
        description="How often an item that a label fits scores above one out of scope; needs `task.out_of_scope` and examples.",
    ),
    MetricSpec(
        name="exact_match",
        answers=(AnswerKinds.TEXT, AnswerKinds.LABELS),
        proportion=True,
        description="Share of answers equal to the reference; of texts, case, white space and forms of Unicode do not count; of labels, "
        "the whole set does.",
    ),
    MetricSpec(name="token_f1", answers=(AnswerKinds.TEXT,), description="Mean F1 of the words shared by answer and reference."),
    MetricSpec(name="rouge_l", answers=(AnswerKinds.TEXT,), description="Mean F1 of the longest run of words, in order, that both share."),
    MetricSpec(name="chrf", answers=(AnswerKinds.TEXT,), description="Mean F2 of the pieces of up to six characters that both share."),
    MetricSpec(
        name="field_score",
        answers=(AnswerKinds.TEXT,),
        description="Mean share of a JSON object's keys whose value is right, texts by token F1; needs `task.format.json_keys`.",
    ),
    MetricSpec(
        name="format_valid",
        answers=(AnswerKinds.TEXT,),
        proportion=True,
        description="Share of answers that have the form of `task.format`.",
    ),
    MetricSpec(
        name="refusal_rate",
        answers=(AnswerKinds.TEXT,),
        description="Share of answers that open by declining; the target is an upper bound.",
    ),
    MetricSpec(
        name="groundedness",
        answers=(AnswerKinds.TEXT,),
        description="Mean share of an answer's words that stand in the passages it was given.",
    ),
    MetricSpec(
        name="referral_recall",
        answers=(AnswerKinds.TEXT,),
        of_some=True,
        description="Of the items whose reference refers to a person, the share whose answer does; needs `referral`.",
    ),
    MetricSpec(
        name="referral_precision",
        answers=(AnswerKinds.TEXT,),
        of_some=True,
        description="Of the items whose answer refers to a person, the share whose reference does; needs `referral`.",
    ),
    MetricSpec(
        name="tool_call_accuracy",
        answers=(AnswerKinds.TEXT,),
        of_some=True,
        description="Of the items that offer functions, the share whose calls are those of the reference in name and arguments, or none.",
    ),
    MetricSpec(
        name="ndcg@10",
        answers=(AnswerKinds.RANKING,),
        description="Mean normalised discounted cumulative gain of the first ten documents.",
    ),
    MetricSpec(
        name="mrr@10",
        answers=(AnswerKinds.RANKING,),
        description="Mean of one over the rank of the first relevant document, 0 where it is not among the first ten.",
    ),
    MetricSpec(
        name="recall@10", answers=(AnswerKinds.RANKING,), description="Mean share of the relevant documents that stand among the first ten."
    ),
    MetricSpec(
        name="recall@100",
        answers=(AnswerKinds.RANKING,),
        description="Mean share of the relevant documents that stand among the first hundred.",
    ),
)

#: Metric name to what it is.
CATALOGUE: dict[str, MetricSpec] = {spec.name: spec for spec in _SPECS}


def parse_metric(name: str) -> MetricName:
    """Takes a metric's name apart and checks it against the catalogue.

    Raises ObjectiveInvalid (without a line) when the metric is unknown, lacks the label it needs, or has one it cannot take.
    """
    base, bracket, rest = name.partition("[")
    spec = CATALOGUE.get(base)
    if spec is None:
        raise ObjectiveInvalid(f"unknown metric {name!r}", _did_you_mean(base))
    if bracket and not (rest.endswith("]") and rest[:-1].strip()):
        raise ObjectiveInvalid(f"metric {name!r} does not read as name[label]", f"write {base}[some_label], the whole in quotes")
    if spec.labelled and not bracket:
        raise ObjectiveInvalid(f"metric {name!r} needs a label", f'write "{base}[some_label]", in quotes, for the label it should hold for')
    if bracket and not spec.labelled:
        labelled = ", ".join(spec.written for spec in _SPECS if spec.labelled)
        raise ObjectiveInvalid(f"metric {base!r} takes no label", f"write {base}, or one of {labelled}")
    return MetricName(base=base, label=rest[:-1].strip() if bracket else None)


def metrics_for(answers: AnswerKinds) -> tuple[str, ...]:
    """Names of the metrics for what a task answers with, as they are written."""
    return tuple(spec.written for spec in _SPECS if answers in spec.answers)


def _did_you_mean(base: str) -> str:
    near = nearest(base, CATALOGUE)
    known = ", ".join(spec.written for spec in _SPECS)
    return f"did you mean {near!r}? known metrics: {known}" if near else f"known metrics: {known}"
