"""Table of a capacity plan: what the replicas do with the traffic, beside other numbers of adapters, and where the cliffs are."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from tailorbird.domain.capacity import CapacityPlan, CapacityReading
from tailorbird.reporting.number_formats import human_memory, human_money
from tailorbird.reporting.tables import add_row, plain_table


def capacity_table(plan: CapacityPlan, *, why: bool = False) -> Group:
    """The reading for the traffic, those with more adapters dimmed below it, cost and cliffs; with ``why`` also the reasons."""
    figures = ("adapters", "replicas", "load", "hit rate", "requests/s", "tokens/s", "p50 ms", "p95 ms", "first token p95 ms", "refused")
    table = plain_table(figures, figures)
    add_row(table, _cells(plan.reading))
    for other in plan.others:
        add_row(table, _cells(other), dim=True)
    return Group(table, *map(Text, ("", *_lines(plan), *(_why(plan) if why else ()))))


def _cells(one: CapacityReading) -> tuple[str, ...]:
    rates = (f"{one.load:.0%}", f"{one.hit_rate:.1%}", f"{one.requests_per_second:,.2f}", f"{one.tokens_per_second:,.0f}")
    waits = (f"{value:,.0f}" for value in (one.p50_ms, one.p95_ms, one.first_token_p95_ms))
    return (f"{one.adapters:,}", f"{one.replicas:,}", *rates, *waits, f"{one.refused:.1%}")


def _lines(plan: CapacityPlan) -> tuple[str, ...]:
    money = f"{human_money(plan.cost_per_month)} {plan.currency} a month, {human_money(plan.cost_per_1k)} for 1,000 requests"
    kept = f"p95 {'holds' if plan.holds else 'does not hold'} the limit of {plan.limit_ms:,.0f} ms"
    return (
        f"{kept}; each replica: {human_memory(plan.memory_gb)} for weights, keys and values; {money}",
        f"each replica holds {plan.resident:,} adapters in memory, of {plan.reading.adapters:,}; beyond that requests wait for theirs",
        _adapter_cliff(plan),
        f"cliff by rate: {plan.cliff_per_second:.3g} requests a second"
        if plan.cliff_per_second
        else "cliff by rate: no rate holds the limit",
    )


def _adapter_cliff(plan: CapacityPlan) -> str:
    if not plan.holds:
        return "cliff by adapters: it is passed already, or the rate is too high"
    if plan.cliff_adapters is None:
        return "cliff by adapters: none found; those that nobody asks for do not matter"
    return f"cliff by adapters: about {plan.cliff_adapters:,} at this rate"


def _why(plan: CapacityPlan) -> tuple[str, ...]:
    return ("", *(f"{reason.rule}: {reason.text} [{reason.source}]" for reason in plan.reasons))
