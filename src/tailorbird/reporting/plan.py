"""A plan as people read it: rungs with estimates, reasons, what was left out, and what the data can prove.

In: a plan. Out: a rich group. Must not know: the rules that made it.
"""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from tailorbird.domain.plan import Plan, Power
from tailorbird.reporting.formatting import estimate_text, human_count
from tailorbird.reporting.tables import add_row, plain_table


def plan_table(plan: Plan) -> Group:
    """The rungs in the order of the climb, then the reason of every choice with its source, then what each split can prove."""
    table = plain_table(("rung", "trained", "time", "memory", "money"), ("trained", "time", "memory", "money"))
    for rung in plan.rungs:
        estimates = (estimate_text(rung.time), estimate_text(rung.memory), estimate_text(rung.money))
        add_row(table, (f"{rung.rung.value} {rung.variant}", human_count(rung.trained_parameters), *estimates))
    left_out = [f"left out: {refusal.rung.value}: {refusal.reason}" for refusal in plan.left_out]
    findings = [f"{found.severity.value} [{found.code}]: {found.what}: {found.remedy}" for found in plan.findings]
    power = _power("dev", plan.dev_power) + _power("test", plan.test_power)
    return Group(Text(_machine(plan)), Text(), table, *_block(_reasons(plan) + left_out), *_block(findings), *_block(power))


def _block(lines: list[str]) -> list[Text]:
    """Lines below an empty one; nothing where there are none."""
    return [Text(line) for line in ("", *lines)] if lines else []


def _machine(plan: Plan) -> str:
    machine = plan.machine
    gpus = ", ".join(machine.gpus) or "no GPU"
    rates = f"matmul {machine.fp32_gflops:.0f} GFLOP/s fp32, {machine.bf16_gflops:.0f} bf16"
    return f"this machine: {machine.cores} cores, {machine.memory_gb:.0f} GiB, {gpus}, {rates}"


def _reasons(plan: Plan) -> list[str]:
    return [f"{rung.rung.value} {rung.variant}: {why.text} [{why.rule}: {why.source}]" for rung in plan.rungs for why in rung.reasons]


def _power(split: str, powers: tuple[Power, ...]) -> list[str]:
    return [f"{split}: {power.kpi} ≥ {power.target:g} {_proof(power)}" for power in powers]


def _proof(power: Power) -> str:
    if not power.provable:
        return f"cannot be proven with {power.n:,} items"
    return f"is proven by {power.must_observe:.3f} or more on {power.n:,} items"
