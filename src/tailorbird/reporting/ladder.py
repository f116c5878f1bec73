"""The climb as a table: what each rung made, how it did, what it cost, and what was decided.

In: a ladder and its objective. Out: a rich table, or Markdown. Must not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table

from tailorbird.domain.ladder import Choice, Climb, Ladder, Refusal
from tailorbird.domain.objective import Objective
from tailorbird.reporting.formatting import NOTHING, difference_text, human_count, human_memory, human_money, human_seconds, metric_text
from tailorbird.reporting.tables import add_row, markdown_table, markdown_text, plain_table

_AGAINST = "against below"
_NUMBERS = ("trained", "time", "memory", "cost")
_THEN = {Choice.STOP: "stop", Choice.CLIMB: "climb", Choice.REFUSE: "end"}


@dataclass(frozen=True)
class _Line:
    """One row: its cells, and whether it is a reference beside the ladder or a rung that was not tried."""

    cells: tuple[str, ...]
    aside: bool


def ladder_table(ladder: Ladder, objective: Objective) -> Table:
    """One row a rung: the floor first (dim), then the rungs that were climbed, then those that were not tried.

    Intervals stand on a line of their own, so that the table fits 100 columns.
    """
    table = plain_table(_head(objective), _NUMBERS, whole=(_AGAINST, "verdict", "then"))
    for line in _lines(ladder, objective):
        add_row(table, (cell.replace(" [", "\n[") for cell in line.cells), dim=line.aside)
    return table


def ladder_reasons(ladder: Ladder) -> list[str]:
    """Why the climb went on or ended after each rung, and why others were not tried: one sentence a line."""
    lines = [f"{climb.rung.value} {climb.variant}: {climb.reason}" for climb in ladder.climbs]
    return lines + [f"{refusal.rung.value} not tried: {refusal.reason}" for refusal in ladder.refused]


def ladder_markdown(ladder: Ladder, objective: Objective) -> str:
    """The same table in Markdown, with the reasons and the decision below it."""
    table = markdown_table(_head(objective), (line.cells for line in _lines(ladder, objective)))
    reasons = "\n".join(f"- {markdown_text(reason)}" for reason in ladder_reasons(ladder))
    return f"{table}\n\n{reasons}\n\nDecision: {markdown_text(ladder.reason)}\n"


def _head(objective: Objective) -> tuple[str, ...]:
    kpi = objective.kpis[0].metric
    return "rung", "trained", f"dev {kpi}", _AGAINST, "time", "memory", "cost", "verdict", "then"


def _lines(ladder: Ladder, objective: Objective) -> Iterator[_Line]:
    if ladder.floor is not None:
        yield _Line(_cells(ladder.floor, objective, f"floor {ladder.floor.variant}", "reference"), aside=True)
    for climb in ladder.climbs:
        then = "chosen" if climb.candidate == ladder.chosen else _THEN[climb.choice]
        yield _Line(_cells(climb, objective, f"{climb.rung.value} {climb.variant}", then), aside=False)
    for refusal in ladder.refused:
        yield _Line(_untried(refusal), aside=True)


def _cells(climb: Climb, objective: Objective, name: str, then: str) -> tuple[str, ...]:
    return (
        name,
        human_count(climb.trained_parameters),
        metric_text(climb.evidence.metrics.get(objective.kpis[0].metric)),
        difference_text(climb.against_below),
        human_seconds(climb.seconds),
        human_memory(climb.peak_memory_gb),
        human_money(climb.money, objective.budget.currency),
        climb.gate.verdict.value,
        then,
    )


def _untried(refusal: Refusal) -> tuple[str, ...]:
    return (refusal.rung.value, *(NOTHING,) * 6, "not tried", NOTHING)
