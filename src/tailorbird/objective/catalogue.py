"""The KPIs that an objective may name.

In: a metric's name as written (``recall[refund]``). Out: what the metric is and which targets make sense. Must not know: how a metric is
computed (``evaluation/``), files, labels that the data has.

Only metrics that come with an interval are on offer: a target can be proven only against an interval's end.
"""

from __future__ import annotations

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.value import Value
from tailorbird.foundations.text import nearest


class MetricSpec(Value):
    """A metric on offer. A target lies in (0, ``highest``]; it is a lower bound, or an upper bound where ``higher_is_better`` is false.

    ``labelled`` metrics are written with a label: ``recall[refund]``. ``description`` is one sentence.
    """

    name: str
    kind: TaskKind
    description: str
    labelled: bool = False
    higher_is_better: bool = True
    highest: float = 1.0


class MetricName(Value):
    """A metric's name taken apart: ``recall[refund]`` is base ``recall``, label ``refund``."""

    base: str
    label: str | None = None


_SPECS = (
    MetricSpec(name="accuracy", kind=TaskKind.CLASSIFY, description="Share of items that get the right label."),
    MetricSpec(
        name="balanced_accuracy",
        kind=TaskKind.CLASSIFY,
        description="Mean of all labels' recalls: rare labels count as much as common ones.",
    ),
    MetricSpec(name="macro_f1", kind=TaskKind.CLASSIFY, description="Mean of all labels' F1, the harmonic mean of precision and recall."),
    MetricSpec(
        name="precision", kind=TaskKind.CLASSIFY, labelled=True, description="Of the items given this label, the share that deserve it."
    ),
    MetricSpec(
        name="recall", kind=TaskKind.CLASSIFY, labelled=True, description="Of the items that deserve this label, the share that get it."
    ),
    MetricSpec(
        name="log_loss",
        kind=TaskKind.CLASSIFY,
        description="Mean negative log-probability of the right label, in nats; the target is an upper bound.",
        higher_is_better=False,
        highest=100.0,
    ),
    MetricSpec(
        name="exact_match",
        kind=TaskKind.GENERATE,
        description="Share of answers equal to the reference after normalising case and white space.",
    ),
    MetricSpec(name="token_f1", kind=TaskKind.GENERATE, description="Mean F1 of the words shared by answer and reference."),
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
        raise ObjectiveInvalid(f"metric {base!r} takes no label", f"write {base}, or one of precision[label], recall[label]")
    return MetricName(base=base, label=rest[:-1].strip() if bracket else None)


def metrics_for(kind: TaskKind) -> tuple[str, ...]:
    """Names of the metrics for a kind of task, as they are written."""
    return tuple(f"{spec.name}[label]" if spec.labelled else spec.name for spec in _SPECS if spec.kind is kind)


def _did_you_mean(base: str) -> str:
    near = nearest(base, CATALOGUE)
    known = ", ".join(f"{spec.name}[label]" if spec.labelled else spec.name for spec in _SPECS)
    return f"did you mean {near!r}? known metrics: {known}" if near else f"known metrics: {known}"
