"""Ladder table: what each rung made, its results, cost and decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird.domain.ladder import Choice, Climb, Ladder, Refusal
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.reporting.tables import (
    NOTHING,
    FittedTable,
    add_row,
    compared_lines,
    confidence_text,
    difference_text,
    human_count,
    human_money,
    making_time,
    metric_text,
    plain_table,
    process_memory,
)
from tailorbird.stats.comparison_sentences import standing_word
from tailorbird.text.markdown import markdown_table, markdown_text

#: Places of the columns that hold one number: trained, time, memory, cost.
_NUMBERS = (1, 4, 5, 6)
#: Characters that the columns with intervals keep, so that no interval is broken.
_VALUE, _DIFFERENCE = 14, 17
#: The column of memory: the resident set of the process at its highest, while the candidate was made and measured.
_MEMORY = "process memory"
_THEN = {Choice.STOP: "stop", Choice.CLIMB: "climb", Choice.REFUSE: "end"}


@dataclass(frozen=True)
class _Line:
    """One row: its cells, and whether it is a reference beside the ladder or a rung that was not tried."""

    cells: tuple[str, ...]
    aside: bool


def ladder_table(ladder: Ladder, objective: Objective) -> FittedTable:
    """One row a rung: the floor first (dim where it is a reference), then the rungs that were climbed, then those that were not tried.

    Variants and intervals stand on lines of their own, so that the table fits 100 columns. Memory is that of the whole process.
    """
    head = tuple(name.replace(_MEMORY, _MEMORY.replace(" ", "\n")) for name in _head(ladder, objective))
    table = plain_table(head, [head[place] for place in _NUMBERS], widths=_widths(ladder, head))
    for line in _lines(ladder, objective):
        rung, *cells = line.cells
        add_row(table, (rung.replace(" ", "\n", 1), *(cell.replace(" [", "\n[") for cell in cells)), dim=line.aside)
    return table


def _widths(ladder: Ladder, head: tuple[str, ...]) -> dict[str, int]:
    """Differences need room only where some rung was compared with the one below."""
    compared = any(climb.against_below for climb in ladder.climbs)
    return {head[2]: _VALUE} | ({head[3]: _DIFFERENCE} if compared else {})


def ladder_reasons(ladder: Ladder) -> list[str]:
    """Why the climb went on or ended after each rung, and why others were not tried: one sentence a line."""
    climbs = ladder.measured if ladder.floor_is_rung else ladder.climbs
    lines = [line for climb in climbs for line in _reasons(climb)]
    return lines + [refusal.sentence for refusal in ladder.refused] + compared_lines(ladder)


def _reasons(climb: Climb) -> Iterator[str]:
    name, against = f"{climb.rung.value} {climb.variant}", climb.against_below
    yield f"{name}: {climb.reason}"
    if against is not None and against.reason:
        yield f"{name} is {standing_word(against)} better or worse than the rung below: {against.reason}"


def ladder_markdown(ladder: Ladder, objective: Objective) -> str:
    """The same table in Markdown, with the reasons and the decision below it."""
    table = markdown_table(_head(ladder, objective), (line.cells for line in _lines(ladder, objective)))
    reasons = "\n".join(f"- {markdown_text(reason)}" for reason in ladder_reasons(ladder))
    caption = markdown_text(f"Intervals: {confidence_text(objective.business.risk)}.")
    return f"{table}\n\n{caption}\n\n{reasons}\n\nDecision: {markdown_text(ladder.reason)}\n"


def compared_on(ladder: Ladder | None, objective: Objective, plan: Plan | None = None) -> str:
    """The metric in which rungs are compared; where no record says so, that of the objective, or its first KPI."""
    planned = plan.comparison.metric if plan and plan.comparison else ""
    return (ladder.compared_on if ladder else "") or planned or objective.compare_on or objective.kpis[0].metric


def is_reference(ladder: Ladder) -> bool:
    """True where the floor stands beside the ladder. In older records only a chosen one is known to be a rung."""
    return ladder.floor is not None and not ladder.floor_is_rung and ladder.floor.candidate != ladder.chosen


def _head(ladder: Ladder, objective: Objective) -> tuple[str, ...]:
    cost = f"cost {objective.budget.currency}"
    return "rung", "trained", f"dev {compared_on(ladder, objective)}", "against below", "time", _MEMORY, cost, "verdict", "then"


def _lines(ladder: Ladder, objective: Objective) -> Iterator[_Line]:
    metric = compared_on(ladder, objective)
    if ladder.floor is not None:
        yield _Line(_cells(ladder.floor, metric, f"floor {ladder.floor.variant}", _then(ladder, ladder.floor)), aside=is_reference(ladder))
    for climb in ladder.climbs:
        then = _then(ladder, climb)
        yield _Line(_cells(climb, metric, f"{climb.rung.value} {climb.variant}", then), aside=False)
    for refusal in ladder.refused:
        yield _Line(_untried(refusal), aside=True)


def _then(ladder: Ladder, climb: Climb) -> str:
    if climb.candidate == ladder.chosen:
        return "chosen"
    if climb.candidate in ladder.unconfirmed:
        return "not confirmed"
    return "reference" if climb == ladder.floor and is_reference(ladder) else _THEN[climb.choice]


def _cells(climb: Climb, metric: str, name: str, then: str) -> tuple[str, ...]:
    return (
        name,
        human_count(climb.trained_parameters),
        metric_text(climb.evidence.metrics.get(metric)),
        standing_word(against) if (against := climb.against_below) and against.reason else difference_text(against),
        making_time(climb),
        process_memory(climb.process_memory_gb),
        human_money(climb.money),
        climb.gate.verdict.value,
        then,
    )


def _untried(refusal: Refusal) -> tuple[str, ...]:
    return (refusal.name, *(NOTHING,) * 6, refusal.verdict, NOTHING)
