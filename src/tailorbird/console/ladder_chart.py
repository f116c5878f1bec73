"""The ladder as a picture: where each rung stands, and where its bar, its interval and the target lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tailorbird.domain.evidence import Metric
from tailorbird.domain.ladder import Choice, Climb, Ladder, Refusal, RungKind
from tailorbird.domain.plan import RungPlan
from tailorbird.usecases.runs.reports import RunReport

_ORDER = tuple(RungKind)
_THEN = {Choice.STOP: "the climb stops here", Choice.CLIMB: "climbed on", Choice.REFUSE: "the climb ends here"}


@dataclass(frozen=True)
class MetricBar:
    """A metric on the axis, in percent of its length."""

    value: float
    low: float
    high: float
    metric: Metric


@dataclass(frozen=True)
class LadderStep:
    """One rung. ``state`` says how it is drawn; only what was measured has a ``climb``, and a ``bar`` where the KPI is defined."""

    name: str
    state: Literal["floor", "climbed", "chosen", "refused", "ahead"]
    reason: str
    then: str = ""
    climb: Climb | None = None
    bar: MetricBar | None = None


@dataclass(frozen=True)
class LadderChart:
    """Rungs from the cheapest to the costliest, the floor beside them, and the target of the metric that is drawn, where it is a KPI."""

    kpi: str
    target: float | None
    target_at: float | None
    axis_low: float
    axis_high: float
    floor: LadderStep | None
    steps: tuple[LadderStep, ...]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def at(self, value: float) -> float:
        """Where ``value`` lies, in percent."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)


def ladder_chart_of(report: RunReport) -> LadderChart | None:
    """The picture of a run's climb so far; None before there is a plan. It draws the metric in which rungs are compared."""
    if report.plan is None:
        return None
    metric = _drawn(report)
    target = next((kpi.target for kpi in report.objective.kpis if kpi.metric == metric), None)
    floor = report.ladder.floor if report.ladder else None
    climbs = report.ladder.climbs if report.ladder else report.climbs
    axis = _axis([*([] if target is None else [target]), *_ends(metric, (*climbs, *([floor] if floor else [])))])
    is_rung = report.ladder is not None and report.ladder.floor_is_rung
    steps = [_climbed(climb, metric, axis, report.ladder) for climb in (*([floor] if floor and is_rung else []), *climbs)]
    return LadderChart(
        kpi=metric,
        target=target,
        target_at=None if target is None else axis.at(target),
        axis_low=axis.low,
        axis_high=axis.high,
        floor=_floor(floor, metric, axis) if floor and not is_rung else None,
        steps=(*steps, *_untried(report, len(climbs))),
    )


def _drawn(report: RunReport) -> str:
    """The metric in which rungs are compared; in runs of before that was planned, the first KPI."""
    planned = report.plan.comparison if report.plan else None
    return planned.metric if planned else report.objective.compare_on or report.objective.kpis[0].metric


def _ends(name: str, climbs: tuple[Climb, ...]) -> Iterator[float]:
    for climb in climbs:
        if (metric := climb.evidence.metrics.get(name)) is not None:
            yield from (metric.low, metric.high)


def _axis(values: list[float]) -> _Axis:
    """From 0 to 1 where all is a share, so that a bar's length says what it seems to say; else from 0 to a bit beyond the farthest."""
    low, high = min([0.0, *values]), max([0.0, *values])
    return _Axis(low, 1.0 if 0 < high <= 1 else (high * 1.1 or 1.0))


def _climbed(climb: Climb, kpi: str, axis: _Axis, ladder: Ladder | None) -> LadderStep:
    is_chosen = ladder is not None and climb.candidate == ladder.chosen
    unconfirmed = ladder is not None and climb.candidate in ladder.unconfirmed
    return LadderStep(
        name=f"{climb.rung.value} {climb.variant}",
        state="chosen" if is_chosen else "climbed",
        reason=climb.reason,
        then="chosen" if is_chosen else "not confirmed by the sealed test" if unconfirmed else _THEN[climb.choice],
        climb=climb,
        bar=_bar(climb, kpi, axis),
    )


def _floor(climb: Climb, kpi: str, axis: _Axis) -> LadderStep:
    return LadderStep(f"floor {climb.variant}", "floor", climb.reason, "reference", climb, _bar(climb, kpi, axis))


def _bar(climb: Climb, kpi: str, axis: _Axis) -> MetricBar | None:
    metric = climb.evidence.metrics.get(kpi)
    return MetricBar(axis.at(metric.value), axis.at(metric.low), axis.at(metric.high), metric) if metric else None


def _untried(report: RunReport, climbed: int) -> list[LadderStep]:
    """What was refused, by cost; while the climb goes on, what the plan left out and what still lies ahead."""
    assert report.plan is not None
    if report.ladder is not None:
        return [_refused(refusal) for refusal in _by_cost(report.ladder.refused)]
    ahead = [_ahead(rung) for rung in report.plan.rungs[climbed:]]
    return ahead + [_refused(refusal) for refusal in _by_cost(report.plan.left_out)]


def _by_cost(refused: tuple[Refusal, ...]) -> list[Refusal]:
    return sorted(refused, key=lambda refusal: _ORDER.index(refusal.rung))


def _refused(refusal: Refusal) -> LadderStep:
    return LadderStep(refusal.rung.value, "refused", refusal.reason, "not tried")


def _ahead(rung: RungPlan) -> LadderStep:
    return LadderStep(f"{rung.rung.value} {rung.variant}", "ahead", "", "not reached yet")
