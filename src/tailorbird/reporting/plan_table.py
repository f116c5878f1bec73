"""Plan table: rungs with estimates and reasons, rungs left out, provable targets."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.plan import BaseProbe, Estimate, FitMachine, Flip, MethodFit, ModelFit, Plan, Power, Reason
from tailorbird.domain.timing import EstimateError
from tailorbird.reporting.tables import (
    NOTHING,
    add_row,
    confidence_text,
    estimate_text,
    exception_lines,
    human_count,
    human_memory,
    human_seconds,
    machine_memory,
    metric_text,
    moment,
    plain_table,
)


def plan_table(plan: Plan, *, why: bool = False) -> Group:
    """The rungs in the order of the climb, what was left out, and what each split can prove; with ``why`` also the reason of every choice
    with its source."""
    figures = ("trained", "time", "process memory", "money", "energy", "1,000 requests", *(("in all",) if plan.traffic else ()))
    table = plain_table(("rung", *figures), figures)
    for name, floor in floor_rows(plan):
        add_row(table, (name, NOTHING, *(estimate_text(each) if each else NOTHING for each in floor)))
    for rung in plan.rungs:
        estimates = (rung.time, rung.memory, rung.money, rung.energy, rung.serving_cost, *((rung.total,) if plan.traffic else ()))
        texts = [estimate_text(estimate) if estimate else NOTHING for estimate in estimates]
        add_row(table, (f"{rung.rung.value} {rung.variant}", human_count(rung.trained_parameters), *texts))
    left_out = [f"left out: {told}" for told in left_out_lines(plan)]
    findings = [f"{found.severity.value} [{found.code}]: {found.what}: {found.remedy}" for found in plan.findings]
    power = power_lines(plan) + comparison_lines(plan, why=why)
    findings = exception_lines(plan.exceptions) + findings
    words = (
        *_block(traffic_lines(plan)),
        *_block(base_lines(plan)),
        *_block((_reasons(plan) if why else []) + left_out),
        *_block(findings),
        *_block(power),
    )
    proven = [Text(confidence_text(plan.risk))] if plan.risk else []
    return Group(Text(_machine(plan)), Text(_basis(plan)), Text(_of_memory(plan)), *proven, Text(), table, *words)


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
    role = [Reason(rule="role", text=roles[floor.role], source="docs/decisions/0049")] if floor.role else []
    vectors = f"; the vectors take {estimate_text(floor.vectors_time)} of it" if floor.vectors_time else ""
    return (*role, floor.reason.model_copy(update={"text": floor.reason.text + vectors}))


def left_out_lines(plan: Plan) -> list[str]:
    """What is not tried, and why."""
    floor = [f"floor: it {plan.floor.refused}"] if plan.floor and plan.floor.refused else []
    return floor + [f"{refusal.name}: {refusal.reason}" for refusal in plan.left_out]


def base_lines(plan: Plan) -> list[str]:
    """Each base model that the objective lists, and why it is in or out: one sentence a line."""
    told = [f"base model {base.label}: {human_count(base.parameters)} weights, {base.license}: {base.reason}" for base in plan.bases]
    return told + [f"base model {base.label} {_probed(base.probe)}" for base in plan.bases if base.probe]


def traffic_lines(plan: Plan) -> list[str]:
    """Which traffic the totals count, and the volumes nearest to it at which two rungs change places: one sentence a line."""
    if plan.traffic is None:
        return []
    traffic = plan.traffic
    whence = "assumed, for the objective names no `traffic`" if traffic.assumed else "as the objective says"
    counted = f"in all: making, and {traffic.per_month:,} requests a month over {traffic.horizon_months:g} months ({whence})"
    shown = plan.flips_near()
    more = len(plan.flips) - len(shown)
    return [counted, *map(_flipped, shown), *([f"and {more} more volumes at which two rungs change places (--json)"] if more else [])]


def _flipped(flip: Flip) -> str:
    upper = f"{flip.high:,.0f}" if flip.high is not None else "any number"
    return (
        f"above about {flip.per_month:,.0f} requests a month (between {flip.low:,.0f} and {upper}) "
        f"{flip.above} costs less in all than {flip.below}, below it more"
    )


def _probed(probe: BaseProbe) -> str:
    score = metric_text(probe.score)
    speed = f"{1000 * probe.seconds_per_row:.0f} ms and {probe.tokens_per_row:.0f} tokens a row"
    return f"zero-shot on {probe.rows} dev rows: {probe.score.name} {score}, {speed}"


def comparison_lines(plan: Plan, *, why: bool = True) -> list[str]:
    """In which metric candidates are compared, ``why`` with the reason and its source, and what can be proven against a release that
    answers now: one sentence a line."""
    told = [f"comparing: {plan.comparison.reason.text} [{plan.comparison.reason.source}]"] if plan.comparison and why else []
    if (found := plan.incumbent) is None or plan.comparison is None:
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


def reasons_by_rung(plan: Plan) -> list[tuple[str, tuple[Reason, ...]]]:
    """The floor, where there is one, and each rung, with the reasons of their choices."""
    floor = [("floor", reasons)] if (reasons := floor_reasons(plan)) else []
    return floor + [(f"{rung.rung.value} {rung.variant}", rung.reasons) for rung in plan.rungs]


def _reasons(plan: Plan) -> list[str]:
    return [f"{name}: {why.text} [{why.rule}: {why.source}]" for name, reasons in reasons_by_rung(plan) for why in reasons]


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


def accuracy_table(errors: tuple[EstimateError, ...]) -> Group:
    """Each training with what was estimated and what it took, newest last, and the mean of the absolute errors."""
    if not errors:
        return Group(Text("no training has ended yet whose estimate is on record"))
    columns = ("time", "took", "error", "memory", "grew by", "error ")
    table = plain_table(("run", "rung", "at", "timed", *columns), columns)
    for one in errors:
        time = (human_seconds(one.seconds.likely), _took(one), f"{one.time_error:+.0%}")
        memory = (human_memory(one.memory.likely), human_memory(one.took_memory), f"{one.memory_error:+.0%}")
        timed = "yes" if one.calibrated else "no"
        add_row(table, (one.run, f"{one.rung.value} {one.variant}", moment(one.at), timed, *time, *memory))
    return Group(
        table, *_block([_mean_error("time", [e.time_error for e in errors]), _mean_error("memory", [e.memory_error for e in errors])])
    )


def _took(one: EstimateError) -> str:
    """The time that a training took; beside other work, also what it would have taken alone, to which its estimate is held."""
    alone = f" ({human_seconds(one.quiet_seconds)} alone)" if one.quiet_seconds not in (0.0, one.took_seconds) else ""
    return f"{human_seconds(one.took_seconds)}{alone}"


def _mean_error(what: str, errors: list[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"{what}: mean absolute error {sum(sizes) / len(sizes):.0%}, worst {max(sizes):.0%}, over {len(sizes)} trainings"


_MILLION = 1_000_000


def fit_table(fit: ModelFit) -> Group:
    """What was read, a row for each machine and method, the machine that would do for each method, and what the numbers rest on."""
    figures = ("pass", "weights", "gradients, moments", "activations", "in all", "of", "tokens/s", "1 M tokens")
    table = plain_table(("machine", "method", *figures, "fits"), figures)
    machines = {machine.name: machine for machine in fit.machines}
    for one in fit.methods:
        cells = _cells(one, machines[one.machine])
        add_row(table, (one.machine, one.method, *cells, one.verdict), dim=one.verdict == "too large")
    enough = [f"{one.method}: {one.text}" for one in fit.sufficient]
    lines = [Text(line) for line in ("", *enough, "", *fit.notes)]
    return Group(*map(Text, _head(fit)), Text(), table, *lines)


def _cells(one: MethodFit, machine: FitMachine) -> tuple[str, ...]:
    parts = (human_memory(gib) for gib in (one.weights_gb, one.optimiser_gb, one.activations_gb))
    speed = (NOTHING, NOTHING)
    if one.verdict != "too large":
        speed = (f"{one.speed.low:,.0f} – {one.speed.high:,.0f}", human_seconds(_MILLION / one.speed.likely))
    return (f"{one.pass_tokens:,}", *parts, estimate_text(one.memory), human_memory(machine.memory_gb), *speed)


def _head(fit: ModelFit) -> tuple[str, str, str]:
    met = (
        f", of which a token meets {human_count(fit.active_parameters)} in its layers" if 2 * fit.active_parameters < fit.parameters else ""
    )
    kind = f" ({fit.model_type})" if fit.model_type else ""
    here = next(machine for machine in fit.machines if machine.measured)
    return (
        f"{fit.name}{kind}: {human_count(fit.parameters)} weights{met}, {fit.layers} layers of width {fit.hidden}",
        f"this machine: {human_memory(here.memory_gb)}, {1000 * here.tflops:,.0f} GFLOP/s in {here.precision}",
        f"rows of {fit.length:,} tokens, adapters of rank {fit.rank}; a pass is in tokens",
    )
