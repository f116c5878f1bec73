"""Rungs that this machine or budget cannot carry."""

from __future__ import annotations

from support.planning import LARGE, MACHINE, SMALL, inputs, manifest, objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Machine
from tailorbird.planning import make_plan

TIGHT = MACHINE.model_copy(update={"memory_gb": 20.0, "four_bit": True})


RICH = {"hours": 1e6, "money": 1e6}


def test_without_bitsandbytes_qlora_is_left_out_with_what_to_install() -> None:
    without = TIGHT.model_copy(update={"four_bit": False})
    plan = make_plan(inputs(base=LARGE, machine=without, objective=objective(budget=RICH)))
    refused = next(r for r in plan.left_out if r.rung is RungKind.QLORA)
    assert "bitsandbytes" in refused.reason


def test_a_target_that_the_base_lacks_is_named_before_anything_is_spent() -> None:
    plan = make_plan(inputs(objective=objective(lora={"targets": ["q_proj", "c_attn"]})))
    refused = next(r for r in plan.left_out if r.rung is RungKind.LORA)
    assert "no linear layer c_attn, but q_proj" in refused.reason


def test_a_budget_that_affords_nothing_says_what_each_rung_costs() -> None:
    plan = make_plan(inputs(objective=objective(budget={"money": 0})))
    assert plan.rungs == ()
    assert len(plan.left_out) == 7
    assert all("budget is 0 EUR" in r.reason for r in plan.left_out)
    short = make_plan(inputs(objective=objective(budget={"hours": 0.05}), manifest=manifest(train=9000)))
    assert {r.rung for r in short.left_out} == {RungKind.LORA, RungKind.QLORA, RungKind.FULL}
    assert all("0.05 h" in r.reason for r in short.left_out)


def test_without_torch_only_prompts_are_planned() -> None:
    plan = make_plan(inputs(machine=Machine(cores=2, memory_gb=4.0, training=False), objective=objective(budget={"hours": 5})))
    assert {r.rung for r in plan.rungs} == {RungKind.PROMPT, RungKind.NEAREST}
    assert all("tailorbird[local]" in r.reason for r in plan.left_out)


def test_rows_longer_than_the_context_are_seen_before_anything_is_spent() -> None:
    plan = make_plan(inputs(base=SMALL.model_copy(update={"context": 64})))
    assert plan.rungs == ()
    assert all("reads 64" in r.reason for r in plan.left_out)
    tight = make_plan(inputs(base=SMALL.model_copy(update={"context": 140})))
    assert [r.rung for r in tight.left_out if r.rung is not RungKind.QLORA] == [RungKind.PROMPT, RungKind.NEAREST]
