"""Tables on narrow terminals: what does not fit is folded, and nothing that a column says is lost."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from support.reporting import gate, ladder, objective, plan
from tailorbird.reporting.ladder import ladder_table
from tailorbird.reporting.plan import plan_table
from tailorbird.reporting.tables import PlainTable, gate_table

WIDTHS = (60, 80, 100, 200)


def shown(what: RenderableType, width: int) -> list[str]:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(what)
    lines = [line.rstrip() for line in captured.get().split("\n")]
    assert all(cell_len(line) <= width for line in lines)
    return lines


def squeezed(lines: list[str]) -> str:
    return "".join("".join(lines).split())


@pytest.mark.parametrize("width", [100, 200])
def test_figures_of_plan_and_ladder_are_unbroken_at_100_columns(width: int) -> None:
    planned, climbed = shown(plan_table(plan()), width), shown(ladder_table(ladder(), objective()), width)
    for figure in ("2 min 00 s – 4 min 30 s", "1.2 – 2.1 GiB", "4.88 M", "[0.900, 0.980]", "[-0.012, +0.150]"):
        assert any(figure in line for line in (*planned, *climbed)), figure


@pytest.mark.parametrize("width", WIDTHS)
def test_each_rung_begins_one_row_of_the_ladder(width: int) -> None:
    lines = shown(ladder_table(ladder(), objective()), width)
    assert [sum(line.startswith(name) for line in lines) for name in ("floor", "prompt", "lora", "full")] == [1] * 4


@pytest.mark.parametrize("width", WIDTHS)
def test_the_gate_names_what_it_judges_at_every_width(width: int) -> None:
    lines = shown(gate_table(gate()), width)
    assert squeezed([line for line in lines if line.strip()]).count("recall[") >= sum(line.startswith("what") for line in lines)


def test_a_ladder_of_one_floor_with_a_long_name_stands_in_one_block_at_100_columns() -> None:
    found = ladder()
    assert found.floor is not None
    floor = found.floor.model_copy(update={"variant": "tf-idf + vectors + logistic regression"})
    lines = shown(ladder_table(found.model_copy(update={"floor": floor, "climbs": ()}), objective()), 100)
    assert sum(line.startswith("rung") for line in lines) == 1


def test_a_column_of_words_is_folded_rather_than_put_below() -> None:
    table = PlainTable(("name", "why"))
    table.add(("a", "so many words that they need lines"))
    assert shown(table, 18) == ["name why", "a    so many words", "     that they", "     need lines", ""]


def test_an_empty_table_is_its_head() -> None:
    assert shown(PlainTable(("name", "why")), 40) == ["name why", ""]
