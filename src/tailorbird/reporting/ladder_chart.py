"""Ladder chart: the rungs of a plan or of a climb with their bars, intervals and target on one axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tailorbird.domain.evidence import Comparison
from tailorbird.domain.ladder import Choice, Climb, Ladder, Refusal, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.reporting.ladder_table import compared_on, is_reference
from tailorbird.reporting.plan_table import floor_rows
from tailorbird.reporting.tables import difference_text, estimate_text, human_seconds, metric_text
from tailorbird.stats.comparison_sentences import settles_comparison

_ORDER = tuple(RungKind)
_THEN = {Choice.STOP: "the climb stops here", Choice.CLIMB: "climbed on", Choice.REFUSE: "the climb ends here"}
_TICKS = 4


@dataclass(frozen=True)
class ChartBar:
    """A value with its interval, in percent of the axis, and the text beside it."""

    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class ChartRung:
    """One rung. ``state`` says how it is drawn; ``climb`` is what was measured, ``bar`` is None where the metric is undefined."""

    name: str
    state: Literal["floor", "climbed", "chosen", "refused", "ahead"]
    reason: str = ""
    then: str = ""
    verdict: str = ""
    against_below: str = ""
    bar: ChartBar | None = None
    climb: Climb | None = None


@dataclass(frozen=True)
class LadderChart:
    """Rungs from the cheapest to the costliest, and the floor where it is a reference beside them. ``ticks`` are labels at equal distances
    from one end of the axis to the other."""

    caption: str
    metric: str
    ticks: tuple[str, ...]
    rungs: tuple[ChartRung, ...]
    floor: ChartRung | None = None
    target: float | None = None
    target_at: float | None = None

    @property
    def all_rungs(self) -> tuple[ChartRung, ...]:
        """The floor, where it stands beside the ladder, and the rungs."""
        return (*((self.floor,) if self.floor else ()), *self.rungs)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    @classmethod
    def holding(cls, values: Iterable[float], share: float = 1.0) -> _Axis:
        """From 0 to ``share`` where all values lie between, so that a bar's length is what it seems; else to a bit beyond the farthest."""
        told = [0.0, *values]
        low, high = min(told), max(told)
        return cls(low, share if 0 < high <= share else (high * 1.1 or 1.0))

    def at(self, value: float) -> float:
        """The position of ``value`` in percent."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def bar(self, value: float, low: float, high: float, text: str) -> ChartBar:
        return ChartBar(self.at(value), self.at(low), self.at(high), text)

    def ticks(self, label: Callable[[float], str]) -> tuple[str, ...]:
        return tuple(label(self.low + step / _TICKS * (self.high - self.low)) for step in range(_TICKS + 1))


def ladder_chart(objective: Objective, ladder: Ladder | None, *, plan: Plan | None = None, climbs: tuple[Climb, ...] = ()) -> LadderChart:
    """The chart of a climb in the metric in which rungs are compared. Before there is a ``ladder``: the ``climbs`` so far, the rungs that
    the ``plan`` has ahead, and those that it left out."""
    metric = compared_on(ladder, objective, plan)
    target = next((kpi.target for kpi in objective.kpis if kpi.metric == metric), None)
    measured = ladder.measured if ladder else climbs
    axis = _Axis.holding([*([] if target is None else [target]), *_ends(metric, measured)])
    floor = ladder.floor if ladder and is_reference(ladder) else None
    tried = [_climbed(climb, metric, axis, ladder) for climb in measured if climb is not floor]
    return LadderChart(
        caption=_caption(metric, target, floor=floor is not None),
        metric=metric,
        ticks=axis.ticks(lambda value: f"{value:.2g}"),
        rungs=(*tried, *(_left(ladder.refused) if ladder else _untried(plan, len(climbs)))),
        floor=_floor(floor, metric, axis) if floor else None,
        target=target,
        target_at=None if target is None else axis.at(target),
    )


def planned_chart(plan: Plan) -> LadderChart:
    """The chart of a plan: how long it takes to make and measure each rung, and what is left out."""
    role = plan.floor.role if plan.floor else ""
    floor = [(name, estimates[0]) for name, estimates in floor_rows(plan) if estimates[0] and role]
    timed = [*floor, *((f"{rung.rung.value} {rung.variant}", rung.time) for rung in plan.rungs)]
    axis = _Axis.holding((time.high for _, time in timed), share=0.0)
    drawn = [ChartRung(name, "ahead", bar=axis.bar(time.likely, time.low, time.high, estimate_text(time))) for name, time in timed]
    is_beside = bool(floor) and role == "reference"
    metric = "time to make and measure a rung"
    return LadderChart(
        caption=f"Estimated {metric}: brackets are ranges. {_stands(floor=is_beside)}",
        metric=metric,
        ticks=axis.ticks(human_seconds),
        rungs=(*drawn[is_beside:], *_left(plan.left_out, "left out")),
        floor=replace(drawn[0], state="floor") if is_beside else None,
    )


def _caption(metric: str, target: float | None, *, floor: bool) -> str:
    aim = "" if target is None else f", the dashed line is the target {target:g}"
    return f"{metric} on dev, in which rungs are compared: brackets are intervals{aim}. {_stands(floor=floor)}"


def _stands(*, floor: bool) -> str:
    return f"The cheapest rung stands at the bottom{', the floor below it' if floor else ''}."


def _ends(name: str, climbs: tuple[Climb, ...]) -> Iterator[float]:
    for climb in climbs:
        if (metric := climb.evidence.metrics.get(name)) is not None:
            yield from (metric.low, metric.high)


def _climbed(climb: Climb, metric: str, axis: _Axis, ladder: Ladder | None) -> ChartRung:
    is_chosen = ladder is not None and climb.candidate == ladder.chosen
    unconfirmed = ladder is not None and climb.candidate in ladder.unconfirmed
    return ChartRung(
        name=f"{climb.rung.value} {climb.variant}",
        state="chosen" if is_chosen else "climbed",
        reason=climb.reason,
        then="chosen" if is_chosen else "not confirmed by the sealed test" if unconfirmed else _THEN[climb.choice],
        verdict=climb.gate.verdict.value,
        against_below=_against(climb.against_below),
        bar=_bar(climb, metric, axis),
        climb=climb,
    )


def _against(found: Comparison | None) -> str:
    if found is None:
        return ""
    settles = settles_comparison(found)
    return difference_text(found) + (f", {settles}" if settles else "")


def _floor(climb: Climb, metric: str, axis: _Axis) -> ChartRung:
    name, verdict = f"floor {climb.variant}", climb.gate.verdict.value
    return ChartRung(name, "floor", climb.reason, "reference beside the ladder", verdict, bar=_bar(climb, metric, axis), climb=climb)


def _bar(climb: Climb, name: str, axis: _Axis) -> ChartBar | None:
    metric = climb.evidence.metrics.get(name)
    return axis.bar(metric.value, metric.low, metric.high, metric_text(metric)) if metric else None


def _untried(plan: Plan | None, climbed: int) -> list[ChartRung]:
    if plan is None:
        return []
    ahead = [ChartRung(f"{rung.rung.value} {rung.variant}", "ahead", then="not reached yet") for rung in plan.rungs[climbed:]]
    return ahead + _left(plan.left_out)


def _left(refused: Iterable[Refusal], then: str = "") -> list[ChartRung]:
    ordered = sorted(refused, key=lambda refusal: _ORDER.index(refusal.rung))
    return [ChartRung(refusal.name, "refused", refusal.reason, then or refusal.verdict) for refusal in ordered]
