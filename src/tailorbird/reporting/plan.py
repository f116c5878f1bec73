"""A plan as people read it: rungs with estimates, reasons, what was left out, and what the data can prove.

In: a plan. Out: a rich group. Must not know: the rules that made it.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tailorbird.domain.plan import Plan, Power
from tailorbird.reporting.formatting import estimate_text, human_count


def plan_table(plan: Plan) -> Group:
    """The rungs in the order of the climb, then the reason of every choice with its source."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rung", "trained", "time", "memory", "money"):
        table.add_column(name)
    for rung in plan.rungs:
        estimates = (estimate_text(rung.time), estimate_text(rung.memory), estimate_text(rung.money))
        table.add_row(f"{rung.rung.value} {rung.variant}", human_count(rung.trained_parameters), *estimates)
    parts: list[RenderableType] = [Text(_machine(plan)), Text(), table]
    parts += [Text(), *(Text(line) for line in _reasons(plan))]
    parts += [Text(f"left out: {refusal.rung.value}: {refusal.reason}") for refusal in plan.left_out]
    parts += [Text(), *(Text(line) for line in _power("dev", plan.dev_power) + _power("test", plan.test_power))]
    return Group(*parts)


def _machine(plan: Plan) -> str:
    machine = plan.machine
    gpus = ", ".join(machine.gpus) or "no GPU"
    rates = f"matmul {machine.fp32_gflops:.0f} GFLOP/s fp32, {machine.bf16_gflops:.0f} bf16"
    return f"this machine: {machine.cores} cores, {machine.memory_gb:.0f} GiB, {gpus}, {rates}"


def _reasons(plan: Plan) -> list[str]:
    lines = []
    for rung in plan.rungs:
        lines += [f"{rung.rung.value} {rung.variant}: {reason.text} [{reason.rule}: {reason.source}]" for reason in rung.reasons]
    return lines


def _power(split: str, powers: tuple[Power, ...]) -> list[str]:
    return [
        f"{split}: {power.kpi} ≥ {power.target:g} "
        + (
            f"is proven by {power.must_observe:.3f} or more on {power.n} items"
            if power.provable
            else f"cannot be proven with {power.n} items"
        )
        for power in powers
    ]
