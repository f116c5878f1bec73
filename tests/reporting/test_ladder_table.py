"""The climb as people see it, on a terminal of 100 columns without colour, and in Markdown."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType

from support.reporting import finding, gate, ladder, objective, plan
from tailorbird.domain.evidence import Standing, Verdict
from tailorbird.domain.ladder import Ladder
from tailorbird.reporting.ladder import ladder_markdown, ladder_reasons, ladder_table
from tailorbird.reporting.plan import plan_table
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


@pytest.mark.parametrize("width", [100, 120])
def test_the_ladder_as_it_is_shown(width: int) -> None:
    """Nothing is broken on a usual terminal, and nothing needs colour."""
    assert _shown(ladder_table(ladder(), objective()), width) == LADDER


def test_a_label_in_brackets_is_shown_and_not_taken_for_markup() -> None:
    shown = _shown(ladder_table(ladder().model_copy(update={"compared_on": "recall[refund]"}), objective("recall[refund]")), 140)
    assert "dev recall[refund]" in shown
    assert "recall[refund]" in _shown(gate_table(gate()))
    assert "[/oops]" in _shown(gate_table(gate(finding("recall[/oops]"))))
    assert "holds [the labels] [rank: DESIGN §5]" in _shown(plan_table(plan(), why=True), 140)


def test_a_climb_without_floor_or_choice() -> None:
    bare = ladder().model_copy(update={"floor": None, "chosen": None, "refused": ()})
    shown = _shown(ladder_table(bare, objective()))
    assert "floor" not in shown
    assert "chosen" not in shown
    assert "stop" in shown
    assert (
        len(
            _shown(
                ladder_table(Ladder(floor=None, climbs=(), refused=(), chosen=None, reason="none", compared_on="accuracy"), objective())
            ).split("\n")
        )
        == 3
    )


def test_reasons_are_one_sentence_a_rung() -> None:
    assert ladder_reasons(ladder()) == [
        "prompt few-shot: prompt did that",
        "lora r16: lora did that",
        "full weights not tried: the rung below passes",
    ]


def test_the_ladder_in_markdown() -> None:
    assert ladder_markdown(ladder(), objective()) == (
        "| rung | trained | dev accuracy | against below | time | process memory | cost EUR | verdict | then |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| floor tf-idf | 20 k | 0.800 [0.720, 0.860] | – | 4.3 s | 2.5 GiB | &lt;0.001 | fail | reference |\n"
        "| prompt few-shot | 0 | 0.880 [0.810, 0.930] | – | 4.3 s | 2.5 GiB | &lt;0.001 | inconclusive | climb |\n"
        "| lora r16 | 4.88 M | 0.950 [0.900, 0.980] | +0.070 not proven [-0.012, +0.150] "
        "| 2 min 10 s | 4.1 GiB | 0.004 | pass | chosen |\n"
        "| full weights | – | – | – | – | – | – | not tried | – |\n"
        "\n"
        "Intervals: targets are proven at 90% confidence (risk: limited); all looks at the sealed test share the 10% of error that this "
        "leaves: a first look, and dev, are judged at 93.9%, each later look at more; differences of rungs at 90%.\n"
        "\n"
        "- prompt few-shot: prompt did that\n"
        "- lora r16: lora did that\n"
        "- full weights not tried: the rung below passes\n"
        "\n"
        "Decision: lora r16 is the cheapest rung that passes on dev\n"
    )


def test_bars_in_reasons_do_not_break_the_markdown() -> None:
    nasty = ladder().model_copy(update={"reason": "a | b\n# c"})
    assert ladder_markdown(nasty, objective()).endswith("Decision: a \\| b # c\n")


def test_the_gate_as_it_is_shown() -> None:
    result = gate(finding(), finding("precision[rare]", Verdict.INCONCLUSIVE, measured=False))
    assert _shown(gate_table(result)) == (
        "what            bound measured             items verdict      reason\n"
        "recall[refund]    0.9 0.960 [0.935, 0.980]   400 pass         recall[refund] is what it is\n"
        "precision[rare]   0.9 –                        0 inconclusive precision[rare] is what it is\n"
    )


def test_the_plan_as_it_is_shown() -> None:
    assert _shown(plan_table(plan())) == (
        "this machine: 2 cores, 23 GiB, no GPU, matmul 61 GFLOP/s fp32, 181 bf16\n"
        "estimates rest on formulas and this machine's measured rates\n"
        "memory: the whole process at its highest, while a candidate is made and measured\n"
        "targets are proven at 90% confidence (risk: limited); all looks at the sealed test share the 10% of error that\n"
        "this leaves: a first look, and dev, are judged at 93.9%, each later look at more; differences of rungs at 90%\n"
        "\n"
        "rung     trained                    time process memory             money energy 1,000 requests\n"
        "lora r16  4.88 M 2 min 00 s – 4 min 30 s  1.2 – 2.1 GiB 0.003 – 0.007 EUR      –              –\n"
        "\n"
        "left out: full: does not fit\n"
        "\n"
        "dev: accuracy ≥ 0.9 is proven by 0.956 or more on 90 items\n"
        "test: recall[rare] ≥ 0.9 cannot be proven with 4 items\n"
    )


def test_the_reasons_of_a_plan_are_shown_where_they_are_asked_for() -> None:
    """With the rule and its source; without, nothing else of the plan is missing."""
    without, told = _shown(plan_table(plan()), 140).split("\n"), _shown(plan_table(plan(), why=True), 140).split("\n")
    assert [line for line in told if line not in without] == [
        "lora r16: rank 16 holds [the labels] [rank: DESIGN §5]",
        "comparing: rank 16 holds [the labels] [DESIGN §5]",
    ]


def test_a_plan_says_what_the_process_may_take() -> None:
    assert "measured; it may take 12.5 GiB" in _shown(plan_table(plan().model_copy(update={"memory_limit_gb": 12.5})))


def test_what_is_known_to_be_no_better_is_not_told_as_open() -> None:
    told = compared_in("accuracy", difference=-0.05, low=-0.09, high=-0.01, items_needed=18_632)
    shown = _shown(ladder_table(told, objective()))
    assert "-0.050 not better" in shown
    assert "not proven" not in shown


def compared_in(metric: str, **changes: object) -> Ladder:
    """The ladder, compared in ``metric``."""
    floor, prompt, lora = ladder().measured
    against = lora.against_below
    assert against is not None
    told = lora.model_copy(update={"against_below": against.model_copy(update={"metric": metric} | changes)})
    return ladder().model_copy(update={"floor": floor, "climbs": (prompt, told), "compared_on": metric})


def test_the_column_is_that_of_the_metric_in_which_rungs_are_compared() -> None:
    less = {"difference": -0.07, "low": -0.15, "high": -0.03, "standing": Standing.BETTER, "less_is_better": True}
    shown = _shown(ladder_table(compared_in("log_loss", **less), objective()))
    assert "dev log_loss" in shown.replace("dev\n", "dev ")
    assert "-0.070 better" in shown
    assert "| dev log_loss |" in ladder_markdown(compared_in("log_loss", **less), objective())


def test_what_could_not_be_compared_says_why_beside_the_table() -> None:
    told = compared_in("chrf", difference=0.0, low=-1.0, high=1.0, reason="chrf is missing on 9 of 90 items of the lower one")
    assert "not proven" in _shown(ladder_table(told, objective()))
    assert (
        "lora r16 is not proven better or worse than the rung below: chrf is missing on 9 of 90 items of the lower one"
        in ladder_reasons(told)
    )
