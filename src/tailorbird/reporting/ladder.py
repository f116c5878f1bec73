"""The ladder as a table, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird.domain.ladder import Choice, Climb, Ladder
from tailorbird.domain.objective import Objective
from tailorbird.reporting.comparison_sentences import standing_word
from tailorbird.reporting.markdown import markdown_table, markdown_text
from tailorbird.reporting.tables import (
    NOTHING,
    PlainTable,
    compared_lines,
    confidence_text,
    difference_text,
    human_count,
    human_money,
    making_time,
    metric_text,
    process_memory,
)

#: Places of the columns that hold one number: trained, time, memory, cost.
_NUMBERS = (1, 4, 5, 6)
#: The column of memory: the resident set of the process at its highest, while the candidate was made and measured.
_MEMORY = "process memory"
_THEN = {Choice.STOP: "stop", Choice.CLIMB: "climb", Choice.REFUSE: "end"}


@dataclass(frozen=True)
class _Line:
    """One row: its cells, and whether it is a reference beside the ladder or a rung that was not tried."""

    cells: tuple[str, ...]
    aside: bool


def ladder_table(ladder: Ladder, objective: Objective) -> PlainTable:
    """One row a rung: the floor first (dim where it is a reference), then the rungs that were climbed, then those that were not tried.

    Variants and intervals stand on lines of their own, so that the table fits 100 columns. Memory is that of the whole process.
    """
    head = tuple(name.replace(_MEMORY, _MEMORY.replace(" ", "\n")) for name in _head(ladder, objective))
    table = PlainTable(head, [head[place] for place in _NUMBERS])
    for line in _lines(ladder):
        rung, *cells = line.cells
        table.add((rung.replace(" ", "\n", 1), *(cell.replace(" [", "\n[") for cell in cells)), dim=line.aside)
    return table


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
    table = markdown_table(_head(ladder, objective), (line.cells for line in _lines(ladder)))
    reasons = "\n".join(f"- {markdown_text(reason)}" for reason in ladder_reasons(ladder))
    caption = markdown_text(f"Intervals: {confidence_text(objective.business.risk)}.")
    return f"{table}\n\n{caption}\n\n{reasons}\n\nDecision: {markdown_text(ladder.reason)}\n"


def _head(ladder: Ladder, objective: Objective) -> tuple[str, ...]:
    cost = f"cost {objective.budget.currency}"
    return "rung", "trained", f"dev {ladder.compared_on}", "against below", "time", _MEMORY, cost, "verdict", "then"


def _lines(ladder: Ladder) -> Iterator[_Line]:
    metric = ladder.compared_on
    if ladder.floor is not None:
        yield _Line(
            _cells(ladder.floor, metric, f"floor {ladder.floor.variant}", _then(ladder, ladder.floor)), aside=not ladder.floor_is_rung
        )
    for climb in ladder.climbs:
        then = _then(ladder, climb)
        yield _Line(_cells(climb, metric, f"{climb.rung.value} {climb.variant}", then), aside=False)
    for refusal in ladder.refused:
        yield _Line((refusal.name, *(NOTHING,) * 6, refusal.verdict, NOTHING), aside=True)


def _then(ladder: Ladder, climb: Climb) -> str:
    if climb.candidate == ladder.chosen:
        return "chosen"
    if climb.candidate in ladder.unconfirmed:
        return "not confirmed"
    return "reference" if climb == ladder.floor and not ladder.floor_is_rung else _THEN[climb.choice]


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
