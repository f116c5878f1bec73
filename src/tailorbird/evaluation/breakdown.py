"""Error breakdown: confusions, worst slices, reliability diagram, risk-coverage curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tailorbird.domain.dataset import Row
from tailorbird.domain.evidence import Breakdown, Confusion, ItemResult, Slice
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.calibration import reliability, risk_coverage_curve
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.stats.intervals import clustered_wilson

#: Confusions and slices of a segment that are kept, and items named with each.
_CONFUSIONS, _SLICES, _EXAMPLES = 20, 20, 3


def break_down(rows: Sequence[Row], items: Sequence[ItemResult], spec: MeasureSpec) -> Breakdown:
    """What lies behind the metrics of ``items``, which are the results of ``rows``."""
    labelled = spec.task is TaskKind.CLASSIFY
    sure = labelled and not spec.many
    return Breakdown(
        confusions=tuple(_confusions(items)) if labelled else (),
        slices=tuple(_slices(rows, items, spec)),
        reliability=reliability(items) if sure else (),
        referral=tuple(risk_coverage_curve(items, spec.confidence)) if sure and all(item.confidence is not None for item in items) else (),
    )


def _confusions(items: Sequence[ItemResult]) -> Iterator[Confusion]:
    """The most frequent pairs of a target and another answer."""
    wrong: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        if not item.correct:
            wrong[item.target, item.prediction].append(item.item)
    for (target, answer), found in sorted(wrong.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_CONFUSIONS]:
        yield Confusion(target=target, answer=answer, count=len(found), examples=tuple(found[:_EXAMPLES]))


def _slices(rows: Sequence[Row], items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Slice]:
    by_item = {item.item: item for item in items}
    # The rows, cut in each of the ways they can be.
    ordered = sorted(len(row.text) for row in rows)
    bounds = [ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3)]
    cuts: dict[str, dict[str, list[Row]]] = {"label": {}, "length": {}, "source": {}}
    for row in rows:
        if spec.task is TaskKind.CLASSIFY:
            cuts["label"].setdefault(row.answer, []).append(row)
        cuts["length"].setdefault(_length(len(row.text), bounds), []).append(row)
        cuts["source"].setdefault(row.provenance.file, []).append(row)
    for segment, parts in cuts.items():
        if len(parts) > 1:
            found = [_slice(segment, name, [by_item[row.id] for row in part], spec) for name, part in parts.items()]
            yield from sorted(found, key=lambda one: (one.high, one.name))[:_SLICES]


def _length(length: int, bounds: Sequence[int]) -> str:
    for place, bound in enumerate(bounds):
        if length <= bound:
            return f"{bounds[place - 1] + 1} to {bound} characters" if place else f"up to {bound} characters"
    return f"over {bounds[-1]} characters"


def _slice(segment: str, name: str, items: Sequence[ItemResult], spec: MeasureSpec) -> Slice:
    right = [item.correct for item in items]
    low, high = clustered_wilson(right, [item.group for item in items], spec.confidence)
    worst = sorted((item for item in items if not item.correct), key=lambda item: (-(item.log_loss or 0.0), item.item))
    return Slice(
        segment=segment,
        name=name,
        n=len(items),
        value=sum(right) / len(right),
        low=low,
        high=high,
        worst=tuple(item.item for item in worst[:_EXAMPLES]),
    )
