"""Objectives of every kind whose right answer is known, and what ``adapt`` decides on them.

In: beds of ``kinds.py``. Out: decided objectives. Every rung of a bed is measured once on its ``truth`` rows; targets are then put, by the
rule of ``cases_of``, where the ladder's own rule gives one clear answer on these true values; and ``adapt`` decides on dev rows that were
no part of this. What dev decides counts; whether the sealed test confirms it stands beside it. What is done is kept line by line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from beds import ROOT
from kinds import VOLUMES, KindBed, bearing, rows_of, write_kind
from playing import played
from remembering import Known
from rivals import allowed, served

from tailorbird.domain.ladder import Climb, Ladder, RungKind
from tailorbird.stats.intervals import spend
from tailorbird.stats.power import pass_probability

WORK = ROOT / ".cache" / "benchmarks" / "kinds"
NONE = "none passes"
#: How far below the target a rung must truly lie that shall not pass; how much more than the margin it must be ahead of a cheaper one.
BELOW, AHEAD = 0.04, 0.15
#: The least that a rung must reach to be of use to anybody, the margin of an objective, the confidence of risk ``minimal``.
LEAST_OF_USE, MARGIN, CONFIDENCE = 0.3, 0.02, 0.80
#: What the test sets can prove at most.
HIGHEST_TARGET = 0.9
#: How many times the cost of another rung must be that of the cheapest, and the months over which requests are counted.
APART, MONTHS = 1.5, 12
QUICKEST = ("floor-banking-8", "tickets-format")


@dataclass(frozen=True)
class Case:
    """An objective on a bed: the rung that is right, the target that makes it so, and keys of the objective beside."""

    bed: str
    right: str
    target: float
    name: str
    more: Mapping[str, Any] = field(default_factory=dict)


#: What each rung of a bed truly reaches, in the order of the ladder.
Truth = Mapping[str, float]


@dataclass(frozen=True)
class Cost:
    """What it costs to make a rung, and the ends of what 1,000 requests to it cost, as measured; in one currency."""

    making: float
    asking: tuple[float, float]

    def of(self, requests: float) -> tuple[float, float]:
        """The ends of what making it and so many requests cost together."""
        low, high = (self.making + requests / 1000 * asked for asked in self.asking)
        return low, high


def cases_of(bed: KindBed, truth: Truth, costs: Mapping[str, Cost] | None = None) -> list[Case]:
    """One objective for every answer, and every number of rungs that pass with it, which some target makes clear: the highest such target;
    where none shall pass, the lowest. Where an automatic ladder would go on above what was measured, nothing but a pass is asked for.
    ``costs`` of the rungs decide on the bed of traffic."""
    if bed.name == "traffic":
        return _turning(bed, truth, costs or {})
    items = bearing(bed, "dev")
    found: dict[tuple[str, int], float] = {}
    for target in (hundredths / 100 for hundredths in range(20, round(100 * HIGHEST_TARGET) + 1)):
        right = right_answer(truth, target, items)
        if right is None or (right == NONE and (bed.ladder == "auto" or (NONE, 0) in found)):
            continue
        if right == NONE or truth[right] >= LEAST_OF_USE:
            found[right, sum(value >= target for value in truth.values())] = target
    return [Case(bed.name, right, target, f"{bed.name}: {right}, {passing} pass") for (right, passing), target in found.items()]


def right_answer(truth: Truth, target: float, items: int) -> str | None:
    """What the rule of the ladder chooses on true values: the cheapest rung that reaches the target, unless a costlier one that does is
    better by more than the margin. None where it is not clear on so many ``items``: what reaches the target shall pass nine times out of
    ten, and what is better be proven better about as often; what does not reach it shall lie ``BELOW`` it."""
    chosen: str | None = None
    for name, value in truth.items():
        if value < target:
            if value > target - BELOW:
                return None
            continue
        if pass_probability(min(value, 1.0), items, target, spend(CONFIDENCE, 1)) < 0.9:
            return None
        ahead = value - truth[chosen] - MARGIN if chosen else 1.0
        if 0 < ahead < AHEAD:
            return None
        chosen = name if ahead > 0 else chosen
    return chosen or NONE


def _turning(bed: KindBed, truth: Truth, costs: Mapping[str, Cost]) -> list[Case]:
    """``nearest`` and the adapter reach the target, and prompts without training do not. Right is which of the two costs less in all, by
    the ladder's own rule (docs/design/ladder.md) on measured costs: to make it, to measure it on dev, and to answer the traffic. No
    objective where
    the two are not clearly apart."""
    passing = [max(name for name in truth if name.startswith(kind)) for kind in ("nearest", "lora")]
    below = max(value for name, value in truth.items() if name.startswith("prompt"))
    items, least = bearing(bed, "dev"), min(truth[name] for name in passing)
    clear = [h / 100 for h in range(20, 91) if pass_probability(least, items, h / 100, spend(CONFIDENCE, 1)) >= 0.9]
    target = max(clear, default=0.0)
    if below > target - BELOW:
        return []
    found = []
    for volume, per_month in VOLUMES.items():
        in_all = {name: costs[name].of(items + per_month * MONTHS) for name in passing}
        right, other = sorted(passing, key=lambda name: in_all[name][1])
        if APART * in_all[right][1] <= in_all[other][0]:
            traffic = {"traffic": {"per_month": per_month, "horizon_months": MONTHS}}
            found.append(Case(bed.name, right, target, f"{bed.name}, {volume}: {right}", traffic))
    return found


#: The lines of a kind, by what they are of and the seed; and what adds one.
Kept = Callable[[str], Mapping[tuple[str, int], dict[str, Any]]]
Keep = Callable[[dict[str, Any]], None]


def decided(kept: Kept, keep: Keep, quick: bool, beds: Sequence[KindBed]) -> list[dict[str, Any]]:
    """Every objective of ``beds`` with its right answer and what was decided. ``kept`` gives the lines of a kind, ``keep`` adds one; what
    is missing is done first, bed by bed."""
    rows = []
    for bed in beds:
        if quick and bed.name not in QUICKEST:
            continue
        known = Known()
        if (bed.name, 0) not in kept("kind_truth"):
            keep({"kind": "kind_truth", "of": bed.name, "seed": 0, "rungs": _measured(bed, known)})
        measured = kept("kind_truth")[bed.name, 0]["rungs"]
        truth = _truth(bed, measured)
        costs = {one["rung"]: Cost(one["making"], tuple(one["asking"])) for one in measured if "asking" in one}
        for case in cases_of(bed, truth, costs):
            if (case.name, 0) not in kept("kind_decision"):
                keep(_decision(bed, case, known))
            line = kept("kind_decision")[case.name, 0]
            told = {"objective": case.name, "target": case.target, "metric": bed.metric, "right": case.right, "decided": line["decided"]}
            rows.append(told | {"released": line["released"], "wrong": line["decided"] != case.right, "truth": truth})
    return rows


def _truth(bed: KindBed, measured: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What each rung truly reaches: as measured, but for a hosted model, which is made to be right so often and needs no measuring."""
    return {rung["rung"]: bed.rival if rung["rung"].startswith("hosted") else rung["value"] for rung in measured}


def _measured(bed: KindBed, known: Known) -> list[dict[str, Any]]:
    """What each rung truly reaches, in the order of the ladder."""
    asked = {"ladder": list(bed.rungs), "kpis": [{"metric": bed.metric, "target": 0.02}]}
    ladder = _play(bed, "truth", asked, known).ladder
    return [{"rung": _name(climb), "value": _value(climb, bed), "seconds": climb.seconds, **_cost(climb)} for climb in _rungs(ladder)]


def _cost(climb: Climb) -> dict[str, Any]:
    """What making it cost, and the ends of what 1,000 requests cost, where that was measured."""
    asked = climb.evidence.metrics.get("cost_per_1k_requests")
    return {"making": climb.money_to_make, "asking": [asked.low, asked.high]} if asked else {}


def _decision(bed: KindBed, case: Case, known: Known) -> dict[str, Any]:
    ladder = bed.ladder or bed.rungs
    asked = {"ladder": ladder if ladder == "auto" else list(ladder), "kpis": [{"metric": bed.metric, "target": case.target}], **case.more}
    found = _play(bed, "dev", asked, known)
    chosen = next((_name(climb) for climb in found.ladder.measured if climb.candidate == found.ladder.chosen), NONE)
    dev = {_name(climb): [_value(climb, bed), climb.gate.verdict.value] for climb in found.ladder.measured}
    line = {"kind": "kind_decision", "of": case.name, "seed": 0, "target": case.target, "decided": chosen, "dev": dev}
    return line | {"looks": found.looks, "released": found.released, "reason": found.ladder.reason}


def _play(bed: KindBed, measured: str, asked: Mapping[str, Any], known: Known) -> Any:
    print(f"{bed.name}: {measured}, {asked['kpis']}", file=sys.stderr, flush=True)
    folder: Path = WORK / bed.name / measured
    play = partial(played, partial(write_kind, bed, measured, asked), folder, WORK / bed.rows / "trained", known)
    if not bed.rival:
        return play()
    with served({text: str(answer) for text, answer in rows_of(bed)}, bed.rival) as rival:
        return play(lambda deps: allowed(deps, "bench", rival.url))


def _rungs(ladder: Ladder) -> Sequence[Climb]:
    """What stands on the ladder: a floor only where it is a rung."""
    return ladder.measured if ladder.floor_is_rung else ladder.climbs


def _name(climb: Climb) -> str:
    return "floor" if climb.rung is RungKind.FLOOR else f"{climb.rung.value} {climb.variant}"


def _value(climb: Climb, bed: KindBed) -> float:
    return round(climb.evidence.metrics[bed.metric].value, 4)
