"""Selection of base models: one ladder over the rungs of several bases, with the reason each is in or out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import BaseProbe, Machine, Plan, PlannedBase, Reason, RungPlan
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.ladder import draft_plan
from tailorbird.planning.model_fit import limit_of, suggest_machine
from tailorbird.planning.rung_plans import too_large, zero_shot
from tailorbird.planning.time_and_cost import order_rungs
from tailorbird.text.data_licences import clash, terms_of

#: Bytes that a weight takes in memory at the least, and a GiB.
_BYTES, _GIB = 2, 2**30


@dataclass(frozen=True)
class BaseOffer:
    """A base model that the objective lists. ``inputs`` is what planning with it rests on; None where it stays out, as ``out`` says, and
    ``parameters`` is 0 where they are not known."""

    name: str
    label: str
    license: str
    parameters: int
    inputs: PlanInputs | None
    out: str = ""
    probe: BaseProbe | None = None


@dataclass(frozen=True)
class _Planned:
    """An offer, what is planned with it, and why it is in or out."""

    offer: BaseOffer
    plan: Plan
    reason: str


def base_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Label of each base in the names of rungs: the last part of its name, or as much more as tells it from the others."""
    shorter = (lambda name: PurePosixPath(name.partition("@")[0]).name, lambda name: PurePosixPath(name).name, lambda name: name)
    for short in shorter:
        labels = tuple(short(name).replace("/", "-").replace(" ", "-").lower() for name in names)
        if len(set(labels)) == len(names) and all(labels):
            return labels
    return tuple(f"base-{place}" for place, _ in enumerate(names, 1))


def why_not_fetched(objective: Objective, machine: Machine, license: str, parameters: int) -> str:
    """Reason not to fetch a base: its licence does not allow the use, or its weights alone do not fit. Empty where it may do."""
    if why := clash(license, objective.business.use):
        return f"its licence {license} clashes with `business.use: {objective.business.use}`: {why}"
    needed, limit = parameters * _BYTES / _GIB, limit_of(objective.budget, machine)
    if needed <= limit:
        return ""
    return f"its {parameters / 1e9:.1f} billion weights alone need {needed:.0f} GiB and may take {limit:.1f}: {suggest_machine(needed)}"


def make_ladder(offers: Sequence[BaseOffer]) -> Plan:
    """The plan over all bases. At least one offer must have inputs.

    Rungs of all bases stand in the order of what they cost in all, making and traffic together. A base without a feasible rung is out, with
    the reason of its cheapest.
    """
    several = len(offers) > 1
    objective = next(offer.inputs.objective for offer in offers if offer.inputs)
    planned = [_heeded(one, offers) for one in (_planned(offer, several) for offer in offers if offer.inputs)]
    first = next((one for one in planned if one.plan.rungs), planned[0])
    reasons = {one.offer.name: one for one in planned}
    update = {
        "base_model": first.plan.base_model,
        "rungs": _each_once(rung for one in planned for rung in one.plan.rungs),
        "left_out": tuple(refusal for one in planned for refusal in _left_out(one, several)),
        "calibrations": tuple(dict.fromkeys(digest for one in planned for digest in one.plan.calibrations)),
        "bases": tuple(_told(offer, reasons.get(offer.name)) for offer in offers),
    }
    return order_rungs(first.plan.model_copy(update=update), objective)


def _each_once(rungs: Iterable[RungPlan]) -> tuple[RungPlan, ...]:
    """A rung that rests on no base is planned with each, and tried once."""
    return tuple({(rung.rung, rung.variant): rung for rung in reversed(list(rungs))}.values())[::-1]


def _planned(offer: BaseOffer, several: bool) -> _Planned:
    assert offer.inputs is not None
    record, plan = digest_of(offer.inputs.base), draft_plan(offer.inputs)
    rungs = tuple(_on_base(rung, offer, record) for rung in plan.rungs) if several else plan.rungs
    reason = _why_in(rungs) if rungs else _why_out(plan.left_out)
    return _Planned(offer, plan.model_copy(update={"base_model": record, "rungs": rungs}), reason)


def bases_to_probe(offers: Sequence[BaseOffer]) -> dict[str, tuple[BaseModelRef, RungPlan]]:
    """Bases with a feasible rung that fit this machine, by label, each with its zero-shot plan."""
    able = ((offer, zero_shot(offer.inputs)) for offer in offers if offer.inputs and draft_plan(offer.inputs).rungs)
    return {offer.label: (offer.inputs.base, rung) for offer, rung in able if offer.inputs and not too_large(offer.inputs, rung)}


def _heeded(one: _Planned, offers: Sequence[BaseOffer]) -> _Planned:
    """Without rungs where another base is proven better and costs no more to ask. A listed ladder is climbed whole all the same."""
    inputs, probe = one.offer.inputs, one.offer.probe
    if inputs is None or probe is None or inputs.objective.ladder != "auto":
        return one
    costs = {other.label: _cost(other.inputs) for other in offers if other.inputs}
    better = next((than for than in probe.worse_than if than.label in costs and costs[than.label] <= _cost(inputs)), None)
    if better is None or not one.plan.rungs:
        return one
    reason = (
        f"proven worse than {better.label} on the same {probe.rows} dev rows, zero-shot, by "
        f"{better.difference:.3f} [{better.low:.3f}, {better.high:.3f}], at no lower cost"
    )
    first = one.plan.rungs[0]
    refusal = Refusal(rung=first.rung, variant=first.variant.removesuffix(f" on {one.offer.label}"), reason=reason)
    return replace(one, plan=one.plan.model_copy(update={"rungs": (), "left_out": (refusal,)}), reason=f"out: {reason}")


def _cost(inputs: PlanInputs) -> float:
    """Seconds that the base is predicted to take for a dev set of answers, zero-shot."""
    return zero_shot(inputs).time.likely


def _on_base(rung: RungPlan, offer: BaseOffer, record: str) -> RungPlan:
    if rung.rung is RungKind.ENCODER:
        return rung
    if rung.endpoint is not None:
        return rung.model_copy(update={"base": record})
    text = f"on {offer.label}: rungs of all bases stand in the order of what they cost in all"
    reason = Reason(rule="base", text=text, source="docs/planning.md")
    return rung.model_copy(update={"variant": f"{rung.variant} on {offer.label}", "base": record, "reasons": (reason, *rung.reasons)})


def _why_in(rungs: Sequence[RungPlan]) -> str:
    return f"in: {len(rungs)} rungs, the shortest of about {min(rung.time.likely for rung in rungs):.0f} s"


def _why_out(left_out: Sequence[Refusal]) -> str:
    return f"out: {left_out[0].name}: {left_out[0].reason}" if left_out else "out: the ladder lists no rung for it"


def _left_out(one: _Planned, several: bool) -> Iterator[Refusal]:
    """The rungs that are left out, each with its base; of a base that is out, the first speaks for all."""
    if not several:
        yield from one.plan.left_out
        return
    for refusal in one.plan.left_out if one.plan.rungs else one.plan.left_out[:1]:
        yield refusal.model_copy(update={"variant": f"{refusal.variant} on {one.offer.label}"})


def _told(offer: BaseOffer, one: _Planned | None) -> PlannedBase:
    inputs = offer.inputs
    return PlannedBase(
        name=offer.name,
        label=offer.label,
        license=offer.license,
        parameters=offer.parameters,
        rungs=len(one.plan.rungs) if one else 0,
        reason=f"{one.reason if one else f'out: {offer.out}'}{_of_licence(offer)}",
        base=digest_of(inputs.base) if inputs else None,
        tokens=inputs.tokens if inputs else None,
        probe=offer.probe,
    )


def _of_licence(offer: BaseOffer) -> str:
    """A word on a licence that nobody has read for the planner."""
    return "" if terms_of(offer.license) else f"; somebody must read its licence ({offer.license})"
