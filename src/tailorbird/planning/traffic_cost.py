"""Interval arithmetic, total cost of rungs over the traffic horizon, the order that follows, and the volumes at which it flips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import ExpectedTraffic, Objective
from tailorbird.domain.plan import Estimate, Flip, Plan, PlannedTraffic, Prices, Reason, RungPlan
from tailorbird.domain.value import Digest


def interval(values: Sequence[float], unit: str) -> Estimate:
    """``values`` are low, likely, high."""
    low, likely, high = values
    return Estimate(low=min(low, likely), likely=likely, high=max(high, likely), unit=unit)


def around(likely: float, spread: tuple[float, float], unit: str) -> Estimate:
    """``spread`` are the factors of the low and the high end."""
    return interval((likely * spread[0], likely, likely * spread[1]), unit)


def total(*parts: Estimate) -> Estimate:
    """The sum of estimates in one unit, ends added to ends."""
    return interval((sum(p.low for p in parts), sum(p.likely for p in parts), sum(p.high for p in parts)), parts[0].unit)


#: Volumes a month beyond which nobody is told of a flip.
_MOST = 1e12


def order_rungs(plan: Plan, objective: Objective) -> Plan:
    """``plan`` with each rung's total, in the order of the totals, with the flips. A rung that costs more to make than one behind it says
    why it stands there.

    Rungs of one base model that cost the same to ask keep the order in which they stand in ``plan``: the climb's refusals rest on it.
    """
    traffic = objective.expected_traffic
    keyed = sorted(_keyed(plan.rungs, traffic), key=lambda one: one.key)
    rungs = _indexed_once([_told(place, keyed, traffic) for place, _ in enumerate(keyed)], plan.prices)
    planned = PlannedTraffic(per_month=traffic.per_month, horizon_months=traffic.horizon_months, assumed=objective.traffic is None)
    flips = tuple(sorted(_flips(keyed, traffic), key=lambda flip: (flip.per_month, flip.below, flip.above)))
    return plan.model_copy(update={"rungs": rungs, "traffic": planned, "flips": flips})


def _indexed_once(rungs: Sequence[RungPlan], prices: Prices) -> tuple[RungPlan, ...]:
    """What a rung has read for its index lies there for the rungs above it, which look the same up by the same encoder."""
    found, read = list[RungPlan](), set[tuple[bool, Digest | None]]()
    for rung in rungs:
        index, shared = rung.index_time, (rung.rung is RungKind.NEAREST, rung.encoder)
        if index is None or shared not in read:
            found.append(rung)
            read |= {shared} if index else set()
            continue
        money, energy = (
            _times(index, each, unit) for each, unit in ((prices.per_second, prices.currency), (prices.kilowatts / 3600, "kWh"))
        )
        less = {"time": _less(rung.time, index), "money": _less(rung.money, money), "index_time": None}
        more = {"energy": _less(rung.energy, energy) if rung.energy else None, "total": _less(rung.total, money) if rung.total else None}
        found.append(rung.model_copy(update=less | more))
    return tuple(found)


def _times(estimate: Estimate, factor: float, unit: str) -> Estimate:
    return interval([factor * end for end in _ends(estimate)], unit)


def _less(whole: Estimate, part: Estimate) -> Estimate:
    """``whole`` without a ``part`` that was added to it."""
    return interval([max(0.0, one - other) for one, other in zip(_ends(whole), _ends(part), strict=True)], whole.unit)


@dataclass(frozen=True)
class _Keyed:
    """A rung with what decides its place: the highest cost of making so far among those of its base that cost as much to ask."""

    rung: RungPlan
    making: Estimate
    total: float
    place: int

    @property
    def key(self) -> tuple[float, float, int]:
        """Beside many requests a small cost of making is lost in rounding: of equal totals it decides."""
        return self.total, self.making.likely, self.place

    @property
    def name(self) -> str:
        return f"{self.rung.rung.value} {self.rung.variant}"


def _keyed(rungs: Sequence[RungPlan], traffic: ExpectedTraffic) -> Iterator[_Keyed]:
    highest: dict[tuple[Digest | None, float], Estimate] = {}
    for place, rung in enumerate(rungs):
        alike = rung.base, _asking(rung).likely
        before = highest.get(alike, rung.money)
        highest[alike] = making = _both(before, rung.money)
        yield _Keyed(rung, making, _total(making, rung, traffic).likely, place)


def _both(one: Estimate, other: Estimate) -> Estimate:
    """The higher of two estimates, end by end."""
    return interval([max(one.low, other.low), max(one.likely, other.likely), max(one.high, other.high)], other.unit)


def _asking(rung: RungPlan) -> Estimate:
    return rung.serving_cost or Estimate(low=0.0, likely=0.0, high=0.0, unit=rung.money.unit)


def _total(making: Estimate, rung: RungPlan, traffic: ExpectedTraffic) -> Estimate:
    return in_all(making, _asking(rung), traffic)


def in_all(making: Estimate, asking: Estimate, traffic: ExpectedTraffic) -> Estimate:
    """What making and all requests of the traffic cost; ``asking`` is of 1,000 requests."""
    thousands = traffic.requests / 1000
    ends = ((making.low, asking.low), (making.likely, asking.likely), (making.high, asking.high))
    return interval([made + thousands * asked for made, asked in ends], making.unit)


def _told(place: int, keyed: Sequence[_Keyed], traffic: ExpectedTraffic) -> RungPlan:
    """The rung with its total, and with the reason where one that costs less to make stands behind it."""
    one = keyed[place]
    rung = one.rung.model_copy(update={"total": _total(one.rung.money, one.rung, traffic)})
    behind = [other for other in keyed[place + 1 :] if other.making.likely < one.making.likely]
    if not behind:
        return rung
    nearest = behind[0]
    more = one.making.likely - nearest.making.likely
    less = traffic.requests / 1000 * (_asking(nearest.rung).likely - _asking(one.rung).likely)
    flip = _flip(nearest, one, traffic)
    below = f"; below {flip.per_month:,.0f} requests a month it would stand behind it" if flip else ""
    text = (
        f"stands before {nearest.name}, although making it costs {more:.2g} {rung.money.unit} more: "
        f"{traffic.requests:,.0f} requests cost {less:.2g} less{below}"
    )
    return rung.model_copy(update={"reasons": (*rung.reasons, Reason(rule="traffic", text=text, source="docs/decisions/0050"))})


def _flips(keyed: Sequence[_Keyed], traffic: ExpectedTraffic) -> Iterator[Flip]:
    for place, one in enumerate(keyed):
        for other in keyed[place + 1 :]:
            dearer_to_ask, cheaper_to_ask = (one, other) if _asking(one.rung).likely > _asking(other.rung).likely else (other, one)
            if flip := _flip(dearer_to_ask, cheaper_to_ask, traffic):
                yield flip


def _flip(below: _Keyed, above: _Keyed, traffic: ExpectedTraffic) -> Flip | None:
    """Where ``above``, which costs less to ask and more to make, comes to cost less in all; None where there is no such volume.

    The ends of making are taken apart, since one may be timed and the other not; those of asking together, since both are asked on the same
    machine, at one rate.
    """
    months = traffic.horizon_months / 1000
    more = above.making.likely - below.making.likely
    asked = [low - high for low, high in zip(_ends(_asking(below.rung)), _ends(_asking(above.rung)), strict=True)]
    if more <= 0 or asked[1] <= 0 or not more / (months * asked[1]) <= _MOST:
        return None
    least, most = max(0.0, above.making.low - below.making.high), above.making.high - below.making.low
    high = most / (months * min(asked)) if min(asked) > 0 else None
    return Flip(
        below=below.name,
        above=above.name,
        per_month=more / (months * asked[1]),
        low=least / (months * max(asked)),
        high=high if high is not None and high <= _MOST else None,
    )


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.likely, estimate.high
