"""Rollout guards: sequential tests on the counts of a rollout, the sample ratio, live KPIs, and the decision that follows.

The chance that a KPI is ever taken for proven while the true share is at its target or below is (1 − confidence) / 2 at most, as at the
gate, however often one looks. All must be proven, so nothing is shared out among them.

All guards together breach by accident with probability ``alpha`` at most, however often one looks: each has its share of it (Bonferroni).
A guard on a rate is breached when it is proven that the release's rate is higher *and* it is seen to be so by more than the margin; one on
a mean, when its confidence sequence lies beyond the margin.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tailorbird.domain.objective import LiveKpi
from tailorbird.domain.rollout import (
    ArmTally,
    Guard,
    GuardFinding,
    GuardName,
    GuardReport,
    LiveFinding,
    Rollout,
    RolloutAction,
    RolloutState,
    Sums,
    Votes,
)
from tailorbird.stats.sequential import (
    ConfidenceBounds,
    EventCounts,
    Moments,
    mean_difference,
    more_events,
    more_than,
    needed,
    other_shares,
    share_bounds,
    votes_needed,
)


def live_findings(kpis: Sequence[LiveKpi], votes: Iterable[Votes], confidence: float) -> tuple[LiveFinding, ...]:
    """One finding per KPI, in their order."""
    found = {one.metric: one for one in votes}
    nothing = {kpi.metric: Votes(metric=kpi.metric, said=0, units=0, total=0.0) for kpi in kpis}
    return tuple(_live_finding(kpi, found.get(kpi.metric, nothing[kpi.metric]), (1 - confidence) / 2) for kpi in kpis)


def unproven_kpis(findings: Iterable[LiveFinding]) -> str:
    """Sentence on the KPIs that are not proven yet; empty where all are."""
    return "; ".join(finding.text for finding in findings if finding.standing != "proven")


def _live_finding(kpi: LiveKpi, votes: Votes, alpha: float) -> LiveFinding:
    counted = Moments(votes.units, votes.total)
    bounds, more = share_bounds(counted, alpha), votes_needed(counted, kpi.target, alpha)
    proven = bool(votes.units) and more_than(counted, kpi.target) >= needed(alpha)
    standing = "proven" if proven else "missed" if bounds is not None and bounds.high < kpi.target else "open"
    return LiveFinding.model_validate(
        {
            "metric": kpi.metric,
            "target": kpi.target,
            "value": bounds.value if bounds else None,
            "low": bounds.low if bounds else None,
            "high": bounds.high if bounds else None,
            "units": votes.units,
            "said": votes.said,
            "standing": standing,
            "needed": more,
            "text": _text(kpi, votes, bounds, standing, more),
        }
    )


def _text(kpi: LiveKpi, votes: Votes, bounds: ConfidenceBounds | None, standing: str, more: int | None) -> str:
    if bounds is None:
        return f"{kpi.metric} of {kpi.target:g}: nobody has said anything yet; at least {more:,} users must, all of them content"
    told = f"{kpi.metric} {bounds.value:.3f} [{bounds.low:.3f}, {bounds.high:.3f}] of {votes.units:,} users ({votes.said:,} answers)"
    if standing == "proven":
        return f"{told} is proven to reach {kpi.target:g}"
    if standing == "missed":
        return f"{told} is proven to miss {kpi.target:g}"
    if more is None:
        return f"{told} does not prove {kpi.target:g}, and at this share no number of users would"
    return f"{told} does not prove {kpi.target:g}: about {more:,} more users would at this share"


#: The chance that right shares are ever taken for wrong ones.
SAMPLE_RATIO_ALPHA = 0.001
#: Requests from which on a shadow step is held where too few of them were mirrored; before, many may only be waiting for it.
_SURELY_ASKED = 500
#: Units of an arm below which nothing is said of a mean: its confidence sequence is asymptotic.
_FEWEST = 30
_RATES = {GuardName.ERRORS: "errors", GuardName.REFUSALS: "refusals", GuardName.FORMAT: "malformed"}
_LOGARITHMIC = frozenset({GuardName.LATENCY, GuardName.COST})


@dataclass(frozen=True)
class _Period:
    """What both arms did within one step; ``share`` of the units were the candidate's. In the shadow both were asked the same, and
    ``asked`` counts the requests that could have been mirrored."""

    incumbent: ArmTally
    candidate: ArmTally
    share: float
    shadow: bool
    asked: int

    def events(self, name: str) -> EventCounts:
        """Units with an event on either arm; in the shadow those in which it was that arm's alone: as likely one's as the other's where
        the rates are the same, however many were mirrored."""
        counted = f"{name}_alone" if self.shadow else name
        return EventCounts(getattr(self.incumbent, counted), getattr(self.candidate, counted), self.share)


def evaluate_guards(rollout: Rollout, tallies: Iterable[ArmTally], now: datetime, votes: Iterable[Votes] = ()) -> GuardReport:
    """Report on the guards, from tallies and ``votes``. ``action`` is None while there is nothing to do."""
    periods = tuple(_periods(rollout, tallies))
    level = rollout.plan.alpha / len(rollout.plan.guards)
    findings = tuple(_finding(guard, periods, level) for guard in rollout.plan.guards)
    counts = [((p.incumbent.units, p.candidate.units), (1 - p.share, p.share)) for p in periods if not p.shadow]
    skewed = bool(counts) and other_shares(counts) >= needed(SAMPLE_RATIO_ALPHA)
    here = periods[-1]
    live = live_findings(rollout.live_kpis, votes, rollout.risk.confidence)
    # A shadow step that shows too little of what users ask, once enough were asked or it would pass, is held.
    share, bound, unseen = _mirrored([here]), rollout.plan.mirrored, ""
    enough = here.asked >= _SURELY_ASKED or here.candidate.requests >= rollout.present.requests
    if share is not None and share < bound and enough:
        asked = f"{_percent(share)} of {here.asked:,} requests were mirrored"
        unseen = f"{asked}, and the plan asks for {_percent(bound)}: guards see too little"
    action, reason = _what_follows(rollout, findings, here, now, doubt=_SKEWED if skewed else unseen)
    every_step_passed = action is RolloutAction.PROMOTE and all(finding.standing != "missed" for finding in live)
    if action is RolloutAction.PROMOTE and rollout.plan.then != "promote":
        action, reason = RolloutAction.HOLD, "every step has passed: a person promotes it, or takes it back"
    # Where there are live KPIs, nobody gets a release alone of whose answers users have not proven enough, and nobody more a release that
    # is proven to miss. Guards, and the decisions of people, come first.
    if live and action is not RolloutAction.ROLL_BACK:
        missed, missing = [finding for finding in live if finding.standing == "missed"], unproven_kpis(live)
        if rollout.state is not RolloutState.RUNNING:
            reason = "; ".join(filter(None, (reason, missing or "every live KPI is proven")))
        elif missed:
            action, reason = RolloutAction.HOLD, f"a live KPI is missed: {missed[0].text}"
        elif action is RolloutAction.PROMOTE and missing:
            action, reason = RolloutAction.HOLD, f"every step has passed, and a live KPI is not proven: {missing}"
    compared = sum(period.candidate.compared for period in periods)
    return GuardReport(
        action=action,
        reason=reason,
        requests=here.candidate.requests,
        incumbent_requests=here.asked,
        sample_ratio_broken=skewed,
        every_step_passed=every_step_passed,
        too_few_mirrored=bool(unseen),
        mirrored=_mirrored(periods),
        guards=findings,
        agreement=sum(period.candidate.agreed for period in periods) / compared if compared else None,
        live=live,
    )


def _what_follows(
    rollout: Rollout, findings: Sequence[GuardFinding], here: _Period, now: datetime, doubt: str
) -> tuple[RolloutAction | None, str]:
    if not rollout.is_open:
        return None, f"{rollout.state.value.replace('_', ' ')}: it has ended, and counts no more"
    breached = next((finding for finding in findings if finding.breached), None)
    if breached is not None:
        return RolloutAction.ROLL_BACK, f"the guard on {breached.guard.value} is breached: {breached.text}"
    if rollout.state is not RolloutState.RUNNING:
        return None, f"{rollout.state.value}: a person decides"
    if doubt:
        return RolloutAction.HOLD, doubt
    step, passed = rollout.present, now - rollout.step_since
    if here.candidate.requests >= step.requests and passed >= timedelta(minutes=step.minutes):
        if rollout.step + 1 < len(rollout.plan.steps):
            return RolloutAction.ADVANCE, f"step {rollout.step + 1} has passed: no guard is breached"
        return RolloutAction.PROMOTE, "every step has passed: no guard is breached"
    if passed > timedelta(hours=rollout.plan.patience_hours):
        return RolloutAction.DOUBT, f"{here.candidate.requests} of {step.requests} requests within {rollout.plan.patience_hours:g} h"
    return None, f"step {rollout.step + 1} of {len(rollout.plan.steps)}: {here.candidate.requests} of {step.requests} requests"


#: Why a rollout is held whose users are not divided as was asked.
_SKEWED = "users are not divided as was asked (sample ratio): counts cannot be trusted until it is known why"


def _mirrored(periods: Iterable[_Period]) -> float | None:
    """The share of the requests in shadow steps that both releases were asked; None without any."""
    shadows = [period for period in periods if period.shadow]
    asked = sum(period.asked for period in shadows)
    return min(1.0, sum(period.candidate.requests for period in shadows) / asked) if asked else None


def _periods(rollout: Rollout, tallies: Iterable[ArmTally]) -> Iterator[_Period]:
    """One period for each step so far, in order; an arm without requests counts nothing."""
    by_step: dict[int, list[ArmTally]] = defaultdict(list)
    for tally in tallies:
        by_step[bisect_right(rollout.versions, tally.version) - 1].append(tally)
    for index in range(len(rollout.versions)):
        step = rollout.plan.steps[index]
        shadow, found = step.kind == "shadow", by_step[index]
        incumbent, candidate = (
            _sum(t for t in found if t.release == release and t.shadow == shadow) for release in (rollout.incumbent, rollout.candidate)
        )
        asked = sum(t.ended if shadow else t.requests for t in found if t.release == rollout.incumbent and not t.shadow)
        yield _Period(incumbent, candidate, 0.5 if shadow else step.share, shadow, asked)


#: A sum is no single release's.
_NOBODY = f"sha256:{0:064x}"
_COUNTS = (
    "units",
    "requests",
    "errors",
    "refusals",
    "malformed",
    "errors_alone",
    "refusals_alone",
    "malformed_alone",
    "compared",
    "agreed",
)


def _sum(tallies: Iterable[ArmTally]) -> ArmTally:
    """Several tallies of one arm as one (a step has one version of the alias, but for a move by hand)."""
    found = tuple(tallies)
    counts = {name: sum(getattr(tally, name) for tally in found) for name in _COUNTS}
    sums = {name: _add(getattr(tally, name) for tally in found) for name in ("latency", "cost", "feedback")}
    return ArmTally.model_validate({"version": 0, "release": _NOBODY, "shadow": False} | counts | sums)


def _add(sums: Iterable[Sums]) -> Sums:
    found = tuple(sums)
    return Sums(n=sum(s.n for s in found), total=sum(s.total for s in found), squares=sum(s.squares for s in found))


def _finding(guard: Guard, periods: Sequence[_Period], level: float) -> GuardFinding:
    return _rate(guard, periods, level) if guard.name in _RATES else _mean(guard, periods, level)


def _rate(guard: Guard, periods: Sequence[_Period], level: float) -> GuardFinding:
    name = _RATES[guard.name]
    evidence = more_events([period.events(name) for period in periods])
    units = [sum(p.incumbent.units for p in periods), sum(p.candidate.units for p in periods)]
    events = [sum(getattr(p.incumbent, name) for p in periods), sum(getattr(p.candidate, name) for p in periods)]
    shares = [e / n if n else None for e, n in zip(events, units, strict=True)]
    # The difference of the rates, averaged over periods by the candidate's units: so that a time that is bad for both is not laid at the
    # door of who had more of it.
    usable = [p for p in periods if p.incumbent.units and p.candidate.units]
    size = sum(p.candidate.units for p in usable)
    more = sum(getattr(p.candidate, name) - p.candidate.units * getattr(p.incumbent, name) / p.incumbent.units for p in usable)
    breached = evidence >= needed(level) and bool(size) and more / size > guard.margin
    text = f"{_percent(shares[1])} of {units[1]} units, {_percent(shares[0])} of {units[0]} before; margin {_percent(guard.margin)}"
    # The ends of a confidence sequence for the difference of the rates: of 0 and 1, count, sum and squares are known.
    pairs = [
        (_binary(p.incumbent, name), _binary(p.candidate, name)) for p in periods if min(p.incumbent.units, p.candidate.units) >= _FEWEST
    ]
    found = mean_difference(pairs, level, bounded=True)
    low, high = (found.low, found.high) if found else (None, None)
    return GuardFinding(
        guard=guard.name,
        margin=guard.margin,
        incumbent=shares[0],
        candidate=shares[1],
        low=low,
        high=high,
        evidence=evidence,
        needed=needed(level),
        breached=breached,
        text=text,
    )


def _binary(tally: ArmTally, name: str) -> Moments:
    count = float(getattr(tally, name))
    return Moments(tally.units, count, count)


def _mean(guard: Guard, periods: Sequence[_Period], level: float) -> GuardFinding:
    pairs = [(_moments(p.incumbent, guard.name), _moments(p.candidate, guard.name)) for p in periods if not p.shadow]
    usable = [pair for pair in pairs if min(pair[0].n, pair[1].n) >= _FEWEST]
    found = mean_difference(usable, level, bounded=guard.name is GuardName.FEEDBACK)
    margin = math.log1p(guard.margin) if guard.name in _LOGARITHMIC else guard.margin
    sizes = [sum(pair[side].n for pair in pairs) for side in (0, 1)]
    means = [_shown(guard.name, pairs, side) for side in (0, 1)]
    if found is None:
        evidence, breached = -math.inf, False
    elif guard.name is GuardName.FEEDBACK:
        evidence, breached = -found.high - margin, -found.high > margin
    else:
        evidence, breached = found.low - margin, found.low > margin
    return GuardFinding(
        guard=guard.name,
        margin=guard.margin,
        incumbent=means[0],
        candidate=means[1],
        low=found.low if found else None,
        high=found.high if found else None,
        evidence=max(evidence, -1e9),
        needed=0.0,
        breached=breached,
        text=f"{_number(means[1])} over {sizes[1]} units, {_number(means[0])} over {sizes[0]} with the release before",
    )


def _moments(tally: ArmTally, name: GuardName) -> Moments:
    sums: Sums = getattr(tally, name.value)
    return Moments(sums.n, sums.total, sums.squares)


def _shown(name: GuardName, pairs: Sequence[tuple[Moments, Moments]], side: int) -> float | None:
    """The mean for people: geometric where logarithms were averaged."""
    n, total = sum(pair[side].n for pair in pairs), sum(pair[side].total for pair in pairs)
    if not n:
        return None
    return math.exp(total / n) if name in _LOGARITHMIC else total / n


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"
