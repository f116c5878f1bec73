"""Tables on narrow terminals: the first column is always whole, and nothing that a column says is lost."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from support.reporting import gate, ladder, objective, plan
from tailorbird.domain.plan import Plan
from tailorbird.reporting import add_row, gate_table, ladder_table, plain_table, plan_table

WIDTHS = (24, 40, 60, 80, 100, 200)


def shown(what: RenderableType, width: int) -> list[str]:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(what)
    lines = [line.rstrip() for line in captured.get().split("\n")]
    assert all(cell_len(line) <= width for line in lines)
    return lines


def squeezed(lines: list[str]) -> str:
    return "".join("".join(lines).split())


def long_plan(name: str) -> Plan:
    """Its only rung is called ``name``, and every figure is there."""
    (rung,) = plan().rungs
    dear = rung.money.model_copy(update={"low": 1000.123, "high": 20000.5})
    return plan().model_copy(update={"rungs": (rung.model_copy(update={"variant": name, "energy": dear, "serving_cost": dear}),)})


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name", ["r16", "r256 on a-base-model-with-quite-a-long-name-1.7b-instruct", "日本語のとても長いベースモデルの名前 r16"]
)
def test_the_rung_is_named_beside_every_figure_of_the_plan(width: int, name: str) -> None:
    lines = shown(plan_table(long_plan(name)), width)
    heads = [line for line in lines if line.startswith("rung")]
    assert heads
    assert squeezed(lines).count("lora") >= len(heads), "every block names the rung"
    if width >= 60:
        assert "".join(name.split())[:6] in squeezed(lines)
        for figure in ("2 min 00 s – 4 min 30 s", "1.2 – 2.1 GiB", "4.88 M", "1000.1 – 20000.5 EUR"):
            assert any(figure in line for line in lines), figure


@pytest.mark.parametrize("width", WIDTHS)
def test_the_rung_is_named_beside_every_figure_of_the_ladder(width: int) -> None:
    lines = shown(ladder_table(ladder(), objective("recall[a_label_that_is_rather_long]")), width)
    blocks = sum(line.startswith("rung") for line in lines)
    for name in ("floor", "prompt", "lora", "full"):
        assert sum(line.startswith(name) for line in lines) == blocks
    assert "chosen" in "".join(lines)


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


def test_columns_that_fit_stand_together_and_the_others_below() -> None:
    table = plain_table(("name", "one", "two"), ("one", "two"))
    add_row(table, ("a", "1" * 10, "2" * 10))
    assert shown(table, 26) == ["name        one        two", "a    1111111111 2222222222", ""]
    assert shown(table, 25) == ["name        one", "a    1111111111", "", "name        two", "a    2222222222", ""]


def test_a_column_of_words_is_folded_rather_than_put_below() -> None:
    table = plain_table(("name", "why"))
    add_row(table, ("a", "so many words that they need lines"))
    assert shown(table, 18) == ["name why", "a    so many words", "     that they", "     need lines", ""]


def test_an_empty_table_is_its_head() -> None:
    assert shown(plain_table(("name", "why")), 40) == ["name why", ""]
