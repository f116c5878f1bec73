"""Transitions of a run as pure functions: the next step, and why the climb goes on or ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tailorbird.domain.evidence import Comparison, Finding, GateResult, Standing, Verdict
from tailorbird.domain.ladder import Choice, Climb, Fit, RungKind
from tailorbird.domain.objective import Budget, ExpectedTraffic, Objective, TaskKind
from tailorbird.domain.plan import Plan, RungPlan, amount
from tailorbird.domain.run import CHOOSE, CONCLUDE, FLOOR, PLAN, SNAPSHOT, TEST, Outlook
from tailorbird.evaluation.metrics import lower_is_better
from tailorbird.reporting.comparison_sentences import measured_words, settles_comparison


def make_step(rung: RungPlan) -> str:
    """The name of the step that makes a rung's candidate."""
    return f"make {rung.rung.value} {rung.variant}"


def measure_step(rung: RungPlan) -> str:
    """The name of the step that measures it and decides."""
    return f"measure {rung.rung.value} {rung.variant}"


def choose_step(number: int) -> str:
    """The name of the step that chooses the candidate of a run's ``number``-th look (1-based) at the sealed test."""
    return CHOOSE if number == 1 else f"{CHOOSE} {number}"


def look_step(number: int) -> str:
    """The name of the step that looks."""
    return TEST if number == 1 else f"{TEST} {number}"


@dataclass(frozen=True)
class Unconfirmed:
    """A look after which the run goes on: what was decided (``CLIMB`` or ``LOOK``), and how many rungs had been climbed by then."""

    choice: Choice
    climbed: int


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: finished steps, the climbs among them, whether a limit ended the climb within a rung (``stopped``), whether
    the last ``choose`` found a candidate (``chosen``), the steps, of making or of measuring, in which a rung ``failed``, what was decided
    after the ``floor`` where it is a rung, and the looks that were ``unconfirmed``."""

    done: Collection[str]
    climbs: Sequence[Climb]
    stopped: bool
    chosen: bool
    failed: Collection[str] = ()
    floor: Choice | None = None
    unconfirmed: Sequence[Unconfirmed] = ()


def floor_is_rung(objective: Objective, plan: Plan) -> bool:
    """True when the floor is the lowest rung of the climb, rather than a reference beside it."""
    return objective.releases_floor and plan.floor is not None and plan.floor.role == "rung"


def next_step(objective: Objective, plan: Plan | None, told: RunProgress) -> str | None:
    """The step to do next, or None when the run is over."""
    without_floor = objective.task.kind is not TaskKind.CLASSIFY or (plan is not None and plan.floor is not None and plan.floor.refused)
    opening = [SNAPSHOT, PLAN] + ([] if without_floor else [FLOOR])
    look = len(told.unconfirmed) + 1
    ending = [choose_step(look)] + ([look_step(look)] if told.chosen else []) + [CONCLUDE]
    steps = opening + (_climbing(objective, plan, told) if plan else []) + ending
    return next((step for step in steps if step not in told.done), None)


def _climbing(objective: Objective, plan: Plan, told: RunProgress) -> list[str]:
    """Steps of the rungs climbed so far and, unless the climb has ended, of the next one that may help."""
    last = told.climbs[-1].choice if told.climbs else told.floor or Choice.CLIMB
    if told.unconfirmed and told.unconfirmed[-1].climbed == len(told.climbs):
        last = told.unconfirmed[-1].choice
    ended = told.stopped or last is not Choice.CLIMB
    climbed = {named(climb) for climb in told.climbs}
    reached = [rung for rung in plan.rungs if named(rung) in climbed or not {make_step(rung), measure_step(rung)}.isdisjoint(told.failed)]
    if not ended:
        hopeless = passed_over(objective, plan, told.climbs)
        reached += [rung for rung in plan.rungs if rung not in reached and named(rung) not in hopeless][:1]
    return [step for rung in reached for step in _steps(rung, told.failed)]


def _steps(rung: RungPlan, failed: Collection[str]) -> tuple[str, ...]:
    """A rung that failed has nothing to measure: the ladder goes on above it."""
    return (make_step(rung),) if make_step(rung) in failed else (make_step(rung), measure_step(rung))


@dataclass(frozen=True)
class Spent:
    """Cost of a run so far."""

    hours: float
    money: float


@dataclass(frozen=True)
class RungVerdict:
    """What is known after a rung was measured on dev: the gate's verdict with its reason, what was spent, and why the rung above cannot
    help (empty where it may)."""

    verdict: Verdict
    reason: str
    spent: Spent
    hopeless: str = ""


def decide(objective: Objective, following: RungPlan | None, found: RungVerdict) -> tuple[Choice, str]:
    """Choice after a rung was measured on dev, and the reason a person reads. ``following`` is the rung above, if there is one."""
    if following is None:
        return Choice.STOP, f"{found.reason}; no costlier rung is left"
    beyond = _beyond_budget(objective.budget, following, found.spent)
    if objective.ladder != "auto" and not beyond:
        return Choice.CLIMB, f"{found.reason}; the objective asks to compare {named(following)} too"
    if found.verdict is Verdict.PASS:
        return Choice.STOP, f"{found.reason}; a costlier rung is not needed"
    why_not = beyond or found.hopeless
    if why_not:
        return Choice.REFUSE, f"{found.reason}; {why_not}"
    return Choice.CLIMB, f"{found.reason}; {named(following)} is next"


def above(plan: Plan, tried: Collection[str], hopeless: Collection[str]) -> RungPlan | None:
    """The rung to climb next: the first that was not tried and may help; one that cannot help where no other is left."""
    left = [rung for rung in plan.rungs if named(rung) not in tried]
    return next((rung for rung in left if named(rung) not in hopeless), left[0] if left else None)


#: How far above the upper end of an interval a target may lie before more weights are given up on. Over adapters that knew their rows by
#: heart, full fine-tuning gained up to 0.13.
WITHIN_REACH = 0.15


def fits_of(climbs: Sequence[Climb]) -> dict[str, Fit | None]:
    """Fits of the trainings of climbed rungs for the rungs above, by name."""
    return {named(climb): telling(climb.fit, climb.gate) for climb in climbs}


def telling(fit: Fit | None, gate: GateResult) -> Fit | None:
    """``fit`` where the gate is so far from a pass that more weights would have to work wonders; None where they may be enough."""
    return fit if _shortfall(gate) > WITHIN_REACH else None


def _shortfall(gate: GateResult) -> float:
    """What separates the interval of a KPI that failed from its target, at most; without end where a limit failed."""
    failed = [finding for finding in gate.findings if finding.verdict is Verdict.FAIL]
    if any(finding.kind == "limit" for finding in failed):
        return math.inf
    gaps = [max(each.bound - each.high, each.low - each.bound) for each in failed if each.low is not None and each.high is not None]
    return max(gaps, default=0.0)


def cannot_help(objective: Objective, plan: Plan, fits: Mapping[str, Fit | None]) -> dict[str, str]:
    """The rungs of an automatic ladder that offer nothing but more weights, and why they are passed over; by name.

    ``fits`` (see ``fits_of``) tells how far the training of each climbed rung got; what counts is the last one on the same base model.
    Adapters equal full fine-tuning until their weights are too few for what is to be learned (Schulman et al. 2025); where every learned
    row is known by heart they are not. That holds for adapters on all linear layers: where the objective restricts them, all weights are
    another place too.
    """
    only_more = {RungKind.LORA, RungKind.FULL} if objective.lora.targets == "auto" else {RungKind.LORA}
    found: dict[str, str] = {}
    below: dict[str | None, Fit | None] = {}
    for rung in plan.rungs if objective.ladder == "auto" else ():
        if rung.rung is RungKind.ENCODER:
            continue  # its weights are not the base model's
        if named(rung) in fits:
            below[rung.base] = fits[named(rung)]
        elif rung.rung in only_more and (fit := below.get(rung.base)) is not None and fit.saturated:
            found[named(rung)] = (
                f"{named(rung)} cannot help: the rung below knows the learned rows by heart "
                f"(loss {fit.learned:.3f} against {fit.held_out:.3f} on rows held out), so more rows would help, and more weights would not"
            )
    return found


def passed_over(objective: Objective, plan: Plan, climbs: Sequence[Climb]) -> dict[str, str]:
    """The rungs of an automatic ladder that cannot help after ``climbs``, by name, each with the reason: what answering takes weighs more
    than what training may gain."""
    return cannot_help(objective, plan, fits_of(climbs)) | too_slow(objective, plan, climbs)


def too_slow(objective: Objective, plan: Plan, climbs: Sequence[Climb]) -> dict[str, str]:
    """The rungs of an automatic ladder that are predicted to miss a limit on what answering takes, as a rung did that was measured; by
    name. Training changes nothing of such a limit: only a shorter prompt, a smaller base, or shorter answers do."""
    if objective.ladder != "auto":
        return {}
    planned, tried = {named(rung): rung for rung in plan.rungs}, {named(climb) for climb in climbs}
    left = [rung for rung in plan.rungs if named(rung) not in tried]
    found: dict[str, str] = {}
    for climb in climbs:
        below = planned.get(named(climb))
        for missed in missed_of_answering(climb.gate) if below else ():
            out = [rung for rung in left if below and _as_slow(rung, below, missed, _longer(climb, plan))]
            every = len(out) == len(left)
            found |= {named(rung): _why_slow(missed, climb, "" if every else named(rung)) for rung in out}
    return found


#: Limits on what answering takes: training changes nothing of them.
OF_ANSWERING = ("latency_p95_ms", "cost_per_1k_requests")
#: A rung is predicted to answer faster than another where it takes less than this share of it, and to miss a limit all the same where it
#: exceeds it this many times: estimates of one machine err alike, but they err.
_FASTER, _FAR = 0.97, 2.0


def missed_of_answering(gate: GateResult) -> list[Finding]:
    """The limits on what answering takes that failed; and those that stayed open, where the value lies beyond the bound, or where nothing
    else stands in the way of a pass."""
    limits = [each for each in gate.findings if each.kind == "limit" and each.name in OF_ANSWERING]
    alone = all(each.verdict is Verdict.PASS or each in limits for each in gate.findings)
    return [
        each
        for each in limits
        if each.verdict is Verdict.FAIL
        or (each.verdict is Verdict.INCONCLUSIVE and (alone or (each.value is not None and each.value > each.bound)))
    ]


def _as_slow(rung: RungPlan, below: RungPlan, missed: Finding, longer: float) -> bool:
    """True where ``rung`` is not predicted to answer faster than ``below``, or not by enough. ``longer`` is how many times longer the
    answers of ``below`` were than those that are learned."""
    if rung.serving_cost is None or below.serving_cost is None or not below.serving_cost.likely:
        return False
    share = rung.serving_cost.likely / below.serving_cost.likely / longer
    return share > _FASTER or (missed.low is not None and missed.low * share > _FAR * missed.bound)


def _longer(climb: Climb, plan: Plan) -> float:
    """How many times longer the answers were than those of the training rows; 1 where they were no longer, or are labels."""
    answered = climb.evidence.metrics.get("answer_tokens")
    learned = plan.tokens.target_mean if plan.tokens else 0.0
    return max(1.0, answered.value / learned) if answered and learned else 1.0


def _why_slow(missed: Finding, climb: Climb, rung: str) -> str:
    """``rung`` is empty where none is left that could meet the limit."""
    what = f"{rung} cannot meet the limit" if rung else "no rung that is left can meet the limit"
    return (
        f"{what}: with {named(climb)} {missed.reason}, and {'it is not' if rung else 'none is'} predicted to come within it; "
        "training does not change that: a faster machine, a smaller base model or a looser limit would"
    )


def _beyond_budget(budget: Budget, following: RungPlan, spent: Spent) -> str:
    """Why the budget does not reach for the next rung; empty when it does."""
    hours, money = following.time.likely / 3600, following.money.likely
    if spent.hours + hours > budget.hours:
        left = max(0.0, budget.hours - spent.hours)
        return f"{named(following)} needs about {amount(hours)} h and {amount(left)} h of the budget are left"
    if spent.money + money > budget.money:
        left = max(0.0, budget.money - spent.money)
        return f"{named(following)} needs about {amount(money)} {budget.currency} and {amount(left)} of the budget are left"
    return ""


def budget_remedy(budget: Budget, following: RungPlan, spent: Spent) -> str:
    """What the budget would have to be for ``following``; empty where it reaches."""
    beyond = _beyond_budget(budget, following, spent)
    if not beyond:
        return ""
    needed = {
        "hours": (spent.hours + following.time.likely / 3600, budget.hours),
        "money": (spent.money + following.money.likely, budget.money),
    }
    raised = [f"`{name}` to at least {amount(most, up=True)}" for name, (most, now) in needed.items() if most > now]
    return f"{beyond}: raise {' and '.join(raised)} under `budget`, and adapt again"


def choose(
    climbs: Sequence[Climb], compare: Callable[[Climb, Climb], Comparison], traffic: ExpectedTraffic | None = None
) -> tuple[Climb | None, str]:
    """The cheapest candidate that passes on dev, unless a costlier one that passes is better by more than the margin.

    ``compare(upper, lower)`` gives the paired difference of two climbs on the same items. Of two of which neither is better the one that
    costs less in all wins: as measured, where the difference is clear, else as planned, which is the order of ``climbs``.
    """
    traffic = traffic or ExpectedTraffic()
    passing = [climb for climb in climbs if climb.gate.verdict is Verdict.PASS]
    if not passing:
        return None, _none_passes(climbs)
    chosen, reasons = passing[0], [f"{named(passing[0])} is the cheapest rung that passes on dev"]
    for costlier in passing[1:]:
        standing, saves = compare(costlier, chosen), _saves(costlier, chosen, traffic)
        reasons.append(_standing_reason(standing, costlier, chosen, saves))
        if standing.standing is Standing.BETTER or (saves and standing.standing is not Standing.WORSE):
            chosen = costlier
    return chosen, "; ".join(reasons)


#: How many times a machine that is busier than it was may lengthen what is measured, and the amount of money that is no saving.
_BUSIER, _NOTHING = 1.5, 0.01


def _saves(costlier: Climb, cheaper: Climb, traffic: ExpectedTraffic) -> str:
    """What was measured of a rung that was planned as the costlier of two, and costs less in all; empty where that is not proven. The two
    were not measured at once, so that a load may have come between them."""
    one, other = in_all(costlier, traffic), in_all(cheaper, traffic)
    if one is None or other is None or _BUSIER * one[1] >= other[0] or other[0] - one[1] < _NOTHING:
        return ""
    return (
        f"costs less in all as measured ({one[0]:.2g} to {one[1]:.2g} against {other[0]:.2g} to {other[1]:.2g} "
        f"for making and {traffic.requests:,.0f} requests)"
    )


def in_all(climb: Climb, traffic: ExpectedTraffic) -> tuple[float, float] | None:
    """Total cost of a measured candidate, making and traffic: at the ends of its measured cost of a request; None without one."""
    asked = climb.evidence.metrics.get("cost_per_1k_requests")
    if asked is None:
        return None
    thousands = traffic.requests / 1000
    return climb.money_to_make + thousands * asked.low, climb.money_to_make + thousands * asked.high


def after_looks(chosen: Climb | None, reason: str, looked: Sequence[Climb]) -> str:
    """The reason of a choice that the sealed test made necessary, as it did not confirm the candidates that were ``looked`` at."""
    told = f"the sealed test did not confirm {', '.join(map(named, looked))}"
    return f"{told}; {reason}" if chosen else f"{told}, and no other rung passes on dev"


def named(climb: Climb | RungPlan) -> str:
    """A rung as people name it: ``lora r16``, or ``lora r16 on smollm2-135m`` where there are several base models."""
    return f"{climb.rung.value} {climb.variant}"


def _standing_reason(found: Comparison, costlier: Climb, cheaper: Climb, saves: str) -> str:
    difference = measured_words(found)
    if found.standing is Standing.BETTER:
        return f"{named(costlier)} is better than {named(cheaper)} by more than the margin ({difference})"
    if found.standing is Standing.TIE:
        ties = f"{named(costlier)} ties with {named(cheaper)} ({difference})"
        return f"{ties}, and {saves}, so it wins" if saves else f"{ties}, so the cheaper wins"
    if found.standing is Standing.WORSE:
        return f"{named(costlier)} is worse than {named(cheaper)} ({difference})"
    told = ", ".join(filter(None, (difference, settles_comparison(found))))
    stands = "is not better" if found.is_loss else "is not proven better"
    open_ = f"{named(costlier)} {stands} than {named(cheaper)} ({told})"
    return f"{open_}, and {saves}, so it is taken" if saves else f"{open_}, so the cheaper stays"


def _none_passes(climbs: Sequence[Climb]) -> str:
    if not climbs:
        return "no rung could be tried"
    best = closest(climbs)
    return f"no rung passes on dev; the closest is {named(best)}: {best.gate.reason}"


def closest(climbs: Sequence[Climb]) -> Climb:
    """Of candidates that did not pass, the one whose KPIs are the closest to being proven; those that nothing disproves come first."""
    return min(climbs, key=lambda climb: (climb.gate.verdict is not Verdict.INCONCLUSIVE, _missing(climb)))


def _missing(climb: Climb) -> float:
    """How far the KPIs are from being proven, as shares of their targets; one without a value is wholly missing."""
    missing = 0.0
    for found in climb.gate.findings:
        if found.kind != "kpi":
            continue
        if found.low is None or found.high is None:
            missing += 1.0
        elif lower_is_better(found.name):
            missing += max(0.0, found.high - found.bound) / found.bound
        else:
            missing += max(0.0, found.bound - found.low) / found.bound
    return missing


def outlook(plan: Plan | None, name: str, done: Collection[str]) -> Outlook:
    """Expected time of the step ``name`` and, at most, of the whole climb from its beginning; nothing without a plan, or at the end.

    The climb may end on any rung, so that the sum over this rung and all above it is the most that it takes; rungs below that were passed
    over, or failed, take nothing more. Of a sealed test the plan says nothing: it is taken to last as long as the longest measurement on
    dev of what it may be opened for, which is what was measured once the climb has ended.
    """
    if plan is None or name == CONCLUDE:
        return Outlook()
    floor = {FLOOR: plan.floor.time.likely} if plan.floor and plan.floor.time else {}
    parts = floor | {step: seconds for rung in plan.rungs for step, seconds in _parts_of(rung).items()}
    ended = name.split()[0] in (CHOOSE, TEST)
    ahead = list(parts)[list(parts).index(name) :] if name in parts else [] if ended else list(parts)
    left = {step: parts[step] for step in ahead if step not in done}
    measured = [FLOOR, *map(measure_step, plan.rungs)]
    look = max((parts[step] for step in measured if step in parts and (step in done or not ended)), default=0.0)
    return Outlook(step=left.get(name) or None, climb=sum(left.values()) + look)


def _parts_of(rung: RungPlan) -> dict[str, float]:
    """Seconds of making a rung's candidate and of measuring it. What reads and trains nothing is made by asking as it is measured."""
    making = sum(part.likely for part in (rung.index_time, rung.training_time) if part)
    return {make_step(rung): making, measure_step(rung): max(0.0, rung.time.likely - making)}
