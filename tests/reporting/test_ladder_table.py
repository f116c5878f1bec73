"""The climb as people see it, on a terminal of 100 columns without colour, and in Markdown."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType

from support.reporting import finding, gate, ladder, objective
from tailorbird.reporting.ladder import ladder_table
from tailorbird.reporting.tables import gate_table

LADDER = """\
                                                             process
rung     trained dev accuracy   against below           time  memory cost EUR verdict      then
floor       20 k 0.800          –                      4.3 s 2.5 GiB   <0.001 fail         reference
tf-idf           [0.720, 0.860]
prompt         0 0.880          –                      4.3 s 2.5 GiB   <0.001 inconclusive climb
few-shot         [0.810, 0.930]
lora      4.88 M 0.950          +0.070 not proven 2 min 10 s 4.1 GiB    0.004 pass         chosen
r16              [0.900, 0.980] [-0.012, +0.150]
full           – –              –                          –       –        – not tried    –
weights
"""


def _shown(what: RenderableType, width: int = 110) -> str:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))


@pytest.mark.parametrize("width", [100])
def test_the_ladder_as_it_is_shown(width: int) -> None:
    """Nothing is broken on a usual terminal, and nothing needs colour."""
    assert _shown(ladder_table(ladder(), objective()), width) == LADDER


def test_a_label_in_brackets_is_shown_and_not_taken_for_markup() -> None:
    shown = _shown(ladder_table(ladder().model_copy(update={"compared_on": "recall[refund]"}), objective("recall[refund]")), 140)
    assert "dev recall[refund]" in shown
    assert "recall[refund]" in _shown(gate_table(gate()))
    assert "[/oops]" in _shown(gate_table(gate(finding("recall[/oops]"))))
