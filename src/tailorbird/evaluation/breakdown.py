"""Error breakdown: confusions, worst slices, reliability diagram, risk-coverage curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

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
    for segment, parts in _segments(rows, spec).items():
        if len(parts) > 1:
            found = [_slice(segment, name, [by_item[row.id] for row in part], spec) for name, part in parts.items()]
            yield from sorted(found, key=lambda one: (one.high, one.name))[:_SLICES]


def _segments(rows: Sequence[Row], spec: MeasureSpec) -> dict[str, dict[str, list[Row]]]:
    """The rows, cut in each of the ways they can be."""
    bounds = _quarters([len(row.text) for row in rows])
    cuts: dict[str, dict[str, list[Row]]] = {"label": {}, "length": {}, "source": {}}
    for row in rows:
        if spec.task is TaskKind.CLASSIFY:
            cuts["label"].setdefault(row.answer, []).append(row)
        cuts["length"].setdefault(_length(len(row.text), bounds), []).append(row)
        cuts["source"].setdefault(row.provenance.file, []).append(row)
    return cuts


def _quarters(lengths: Sequence[int]) -> tuple[int, int, int]:
    ordered = sorted(lengths)
    first, half, third = (ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3))
    return first, half, third


def _length(length: int, bounds: tuple[int, int, int]) -> str:
    first, half, third = bounds
    names: Mapping[str, bool] = {
        f"up to {first} characters": length <= first,
        f"{first + 1} to {half} characters": length <= half,
        f"{half + 1} to {third} characters": length <= third,
    }
    return next((name for name, holds in names.items() if holds), f"over {third} characters")


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
