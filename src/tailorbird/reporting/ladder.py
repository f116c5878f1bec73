"""The climb as a table: what each rung made, how it did, what it cost, and why the climb went on or ended.

In: a ladder and its objective. Out: a rich table, or Markdown. Must not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from tailorbird.domain.ladder import Choice, Climb, Ladder
from tailorbird.domain.objective import Objective
from tailorbird.reporting.formatting import difference_text, human_count, human_seconds, metric_text

COLUMNS = ("rung", "trained", "dev {kpi}", "against the rung below", "time", "memory", "cost", "verdict", "then")
_THEN = {Choice.STOP: "stop", Choice.CLIMB: "climb", Choice.REFUSE: "end"}


def ladder_table(ladder: Ladder, objective: Objective) -> Table:
    """One row a rung, the floor first, rungs not tried last; the reason of each decision below its row."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name in _columns(objective):
        table.add_column(name, overflow="fold", justify="right" if name in ("trained", "time", "memory", "cost") else "left")
    for climb, cells in _rows(ladder, objective):
        table.add_row(*cells, style="dim" if climb is None or climb is ladder.floor else None)
    return table


def ladder_reasons(ladder: Ladder) -> list[str]:
    """Why the climb went on or ended after each rung, and why others were not tried: one sentence a line."""
    lines = [f"{climb.rung.value} {climb.variant}: {climb.reason}" for climb in ladder.climbs]
    return lines + [f"{refusal.rung.value} not tried: {refusal.reason}" for refusal in ladder.refused]


def ladder_markdown(ladder: Ladder, objective: Objective) -> str:
    """The same table in Markdown, with the reasons as a list."""
    columns = _columns(objective)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cells) + " |" for _, cells in _rows(ladder, objective)]
    return "\n".join([*lines, "", *(f"- {reason}" for reason in ladder_reasons(ladder)), ""])


def _columns(objective: Objective) -> tuple[str, ...]:
    return tuple(name.format(kpi=objective.kpis[0].metric) for name in COLUMNS)


def _rows(ladder: Ladder, objective: Objective) -> Iterator[tuple[Climb | None, tuple[str, ...]]]:
    if ladder.floor is not None:
        yield ladder.floor, _cells(ladder.floor, objective, "floor, for reference", "")
    for climb in ladder.climbs:
        mark = " ◀" if climb.candidate == ladder.chosen else ""
        yield climb, _cells(climb, objective, f"{climb.rung.value} {climb.variant}{mark}", _THEN[climb.choice])
    for refusal in ladder.refused:
        yield None, (refusal.rung.value, *("–",) * 6, "not tried", "")


def _cells(climb: Climb, objective: Objective, name: str, then: str) -> tuple[str, ...]:
    return (
        name,
        human_count(climb.trained_parameters) if climb.trained_parameters else "0",
        metric_text(climb.evidence.metrics.get(objective.kpis[0].metric)),
        difference_text(climb.against_below),
        human_seconds(climb.seconds),
        f"{climb.peak_memory_gb:.1f} GiB",
        f"{climb.money:.3f} {objective.budget.currency}",
        climb.gate.verdict.value,
        then,
    )
