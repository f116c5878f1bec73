"""Table of a base model's fit: each training method on this machine and on common GPUs."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from tailorbird.domain.model_fit import FitMachine, MethodFit, ModelFit
from tailorbird.reporting.number_formats import NOTHING, estimate_text, human_count, human_memory, human_seconds
from tailorbird.reporting.tables import add_row, plain_table

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
