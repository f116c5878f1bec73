"""A plan as a table and as a page: rungs with estimates and reasons, rungs left out, provable targets."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.plan import Estimate, Plan, Power, Reason
from tailorbird.reporting.markdown import markdown_table
from tailorbird.reporting.tables import (
    NOTHING,
    PlainTable,
    confidence_text,
    estimate_text,
    exception_lines,
    human_count,
    human_memory,
    machine_memory,
    markdown_environment,
)


def plan_table(plan: Plan, *, why: bool = False) -> Group:
    """The rungs in the order of the climb, what was left out, and what each split can prove; with ``why`` also the reason of every choice
    with its source."""
    figures = plan_head(plan)
    table = PlainTable(("rung", *figures), figures)
    for row in plan_rows(plan):
        table.add(row)
    left_out = [f"left out: {told}" for told in left_out_lines(plan)]
    findings = [f"{found.severity.value} [{found.code}]: {found.what}: {found.remedy}" for found in plan.findings]
    power = power_lines(plan) + comparison_lines(plan, why=why)
    findings = exception_lines(plan.exceptions) + findings
    words = (
        *_block(traffic_lines(plan)),
        *_block(base_lines(plan)),
        *_block((reason_lines(plan) if why else []) + left_out),
        *_block(findings),
        *_block(power),
    )
    return Group(Text(_machine(plan)), Text(_basis(plan)), Text(_of_memory(plan)), Text(confidence_text(plan.risk)), Text(), table, *words)


def plan_head(plan: Plan) -> tuple[str, ...]:
    """What heads the figures of ``plan_rows``."""
    return ("trained", "time", "process memory", "money", "energy", "1,000 requests", *(("in all",) if plan.traffic else ()))


def plan_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """The floor, where it is made, and each rung, with their estimates."""
    for name, floor in floor_rows(plan):
        yield (name, NOTHING, *(estimate_text(each) if each else NOTHING for each in floor))
    for rung in plan.rungs:
        estimates = (rung.time, rung.memory, rung.money, rung.energy, rung.serving_cost, *((rung.total,) if plan.traffic else ()))
        texts = [estimate_text(estimate) if estimate else NOTHING for estimate in estimates]
        yield (f"{rung.rung.value} {rung.variant}", human_count(rung.trained_parameters), *texts)


def floor_rows(plan: Plan) -> list[tuple[str, tuple[Estimate | None, ...]]]:
    """The floor's line of the table, its name and its estimates in the order of the columns; nothing where it is not made."""
    floor = plan.floor
    if floor is None or floor.time is None or floor.refused:
        return []
    name = f"floor words{' and vectors' if floor.encoder else ''}{' (reference)' if floor.role == 'reference' else ''}"
    in_all = (floor.total,) if plan.traffic else ()
    return [(name, (floor.time, floor.memory, floor.money, floor.energy, floor.serving_cost, *in_all))]


def floor_reasons(plan: Plan) -> tuple[Reason, ...]:
    """Why the floor is a rung or a reference, what it reads, and what its vectors take."""
    floor = plan.floor
    if floor is None:
        return ()
    roles = {
        "rung": "the lowest rung: the climb stops on it where it passes, and it is released; `floor: reference` keeps it beside the ladder",
        "reference": "measured for reference, and not released",
    }
    role = Reason(rule="role", text=roles[floor.role], source="docs/design/ladder.md")
    vectors = f"; the vectors take {estimate_text(floor.vectors_time)} of it" if floor.vectors_time else ""
    return (role, floor.reason.model_copy(update={"text": floor.reason.text + vectors}))


def left_out_lines(plan: Plan) -> list[str]:
    """What is not tried, and why."""
    floor = [f"floor: it {plan.floor.refused}"] if plan.floor and plan.floor.refused else []
    return floor + [f"{refusal.name}: {refusal.reason}" for refusal in plan.left_out]


def base_lines(plan: Plan) -> list[str]:
    """Each base model that the objective lists, and why it is in or out: one sentence a line."""
    return [f"base model {base.label}: {human_count(base.parameters)} weights, {base.license}: {base.reason}" for base in plan.bases]


def traffic_lines(plan: Plan) -> list[str]:
    """Which traffic the totals count: one sentence."""
    if plan.traffic is None:
        return []
    traffic = plan.traffic
    whence = "assumed, for the objective names no `traffic`" if traffic.assumed else "as the objective says"
    counted = f"in all: making, and {traffic.per_month:,} requests a month over {traffic.horizon_months:g} months ({whence})"
    return [counted]


def comparison_lines(plan: Plan, *, why: bool = True) -> list[str]:
    """In which metric candidates are compared, ``why`` with the reason and its source, and what can be proven against a release that
    answers now: one sentence a line."""
    told = [f"comparing: {plan.comparison.reason.text} [{plan.comparison.reason.source}]"] if why else []
    if (found := plan.incumbent) is None:
        return told
    whom = f"release {short(found.release)}, which answers now" if found.release else "a first release, by the one after it"
    needed = (
        f"; the margin takes about {found.items_needed:,} items" if found.items_needed and found.provable > plan.comparison.margin else ""
    )
    proof = f"{found.n:,} independent test items prove two that are equally good alike within {found.provable:.3f}"
    return [*told, f"against {whom} (look {found.look}, {found.confidence:.1%} confidence): {proof}{needed}; assumed: {found.assumption}"]


def _block(lines: list[str]) -> list[Text]:
    """Lines below an empty one; nothing where there are none."""
    return [Text(line) for line in ("", *lines)] if lines else []


def _machine(plan: Plan) -> str:
    machine = plan.machine
    gpus = ", ".join(machine.gpus) or "no GPU"
    rates = f"matmul {machine.fp32_gflops:.0f} GFLOP/s fp32, {machine.bf16_gflops:.0f} bf16"
    beside = " (measured beside other work)" if machine.loaded else ""
    return f"this machine: {machine.cores} cores, {machine_memory(machine.memory_gb)}, {gpus}, {rates}{beside}"


def _of_memory(plan: Plan) -> str:
    limit = f"; it may take {human_memory(plan.memory_limit_gb)}" if plan.memory_limit_gb else ""
    return f"memory: the whole process at its highest, while a candidate is made and measured{limit}"


def _basis(plan: Plan) -> str:
    timed = sorted({f"{rung.rung.value} (timed {rung.calibrated})" for rung in plan.rungs if rung.calibrated})
    return (
        f"estimates rest on steps timed here: {', '.join(timed)}"
        if timed
        else "estimates rest on formulas and this machine's measured rates"
    )


def reason_lines(plan: Plan) -> list[str]:
    """The reasons of the choices for the floor, where there is one, and each rung: one sentence a line."""
    chosen = [("floor", floor_reasons(plan)), *((f"{rung.rung.value} {rung.variant}", rung.reasons) for rung in plan.rungs)]
    return [f"{name}: {why.text} [{why.rule}: {why.source}]" for name, reasons in chosen for why in reasons]


def power_lines(plan: Plan) -> list[str]:
    """What dev and test can prove of each KPI, and what their shifted parts can: one sentence a line."""
    powers = [("dev", power) for power in plan.dev_power] + [("test", power) for power in plan.test_power]
    proofs = [f"{split}: {power.kpi} ≥ {power.target:g} {_proof(power)}" for split, power in powers]
    return proofs + [
        f"{found.split.value}, shifted part: {found.n:,} items{f' in {found.groups:,} groups' if found.groups else ''}; "
        f"a drop of less than {found.open:.3f} cannot be told from none, however good a candidate is"
        for found in plan.shift
    ]


def _proof(power: Power) -> str:
    items = f"{power.n:,} items" + (f" in {power.groups:,} groups" if power.groups else "")
    if not power.provable:
        return f"cannot be proven with {items}"
    chance = f"; a true value of {power.must_be:.3f} is released four times out of five" if power.must_be is not None else ""
    return f"is proven by {power.must_observe:.3f} or more on {items}{chance}"


def plan_markdown(plan: Plan, name: str) -> str:
    """The page of a plan; ``name`` is its heading."""
    sections = (
        ("Traffic", traffic_lines(plan)),
        ("Base models", base_lines(plan)),
        ("Why", reason_lines(plan)),
        ("Left out", left_out_lines(plan)),
        ("Rules of the tier that are not followed", exception_lines(plan.exceptions)),
        ("What the data can prove", [confidence_text(plan.risk), *power_lines(plan), *comparison_lines(plan)]),
    )
    table = markdown_table(("rung", *plan_head(plan)), plan_rows(plan))
    return markdown_environment().get_template("plan.md").render(plan=plan, name=name, table=table, sections=sections)
