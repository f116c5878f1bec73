"""The rules that choose settings."""

from __future__ import annotations

import pytest

from support.planning import SMALL, TOKENS, inputs, llama, manifest, objective
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import LoraSettings, Plan, RungPlan, TrainingSettings
from tailorbird.planning import PlanInputs, make_plan


def rung(plan: Plan, kind: RungKind, variant: str | None = None) -> RungPlan:
    return next(r for r in plan.rungs if r.rung is kind and variant in (None, r.variant))


def trained(plan: Plan, kind: RungKind) -> TrainingSettings:
    settings = rung(plan, kind).training
    assert settings is not None
    return settings


@pytest.mark.parametrize(
    ("answer_tokens", "rank", "enough"),
    [
        (4.0, 16, True),
        (30_000.0, 64, True),
        (60_000.0, 64, False),
    ],
)
def test_rank_gives_as_many_weights_as_there_are_answer_tokens(answer_tokens: float, rank: int, enough: bool) -> None:
    tokens = TOKENS.model_copy(update={"target_mean": answer_tokens})
    plan = make_plan(inputs(tokens=tokens, manifest=manifest(train=500), objective=objective(budget={"hours": 1e6, "money": 1e6})))
    settings = trained(plan, RungKind.LORA)
    assert settings.lora == LoraSettings(rank=rank, alpha=32, targets=tuple(SMALL.linear_shapes))
    assert rung(plan, RungKind.LORA).trained_parameters == rank * 305_280
    reason = next(r for r in rung(plan, RungKind.LORA).reasons if r.rule == "R1")
    assert ("room enough" in reason.text) == enough
    of_full = next(r for r in rung(plan, RungKind.FULL).reasons if r.rule == "R1")
    assert ("exceed" in of_full.text) != enough


@pytest.mark.parametrize(("hidden", "full_rate"), [(576, 1e-4), (2304, 5e-5)])
@pytest.mark.parametrize(
    ("rows", "ratio", "of_full"),
    [
        (120, 15, 2),
        (1_900, 10, 1),
    ],
)
def test_lora_learns_ten_times_as_fast_as_full_and_short_runs_faster(
    hidden: int, full_rate: float, rows: int, ratio: int, of_full: int
) -> None:
    hours = objective(budget={"hours": 1000, "money": 1000})
    plan = make_plan(inputs(base=llama(hidden, 4, 1536, 192, parameters=10_000_000), manifest=manifest(train=rows), objective=hours))
    assert trained(plan, RungKind.FULL).learning_rate == pytest.approx(of_full * full_rate)
    assert trained(plan, RungKind.LORA).learning_rate == pytest.approx(ratio * full_rate)


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [
        (120, 10),
        (240, 8),
        (600, 3),
        (2_000, 2),
        (20_001, 1),
    ],
)
def test_epochs_fall_with_rows(rows: int, epochs: int) -> None:
    plan = make_plan(inputs(manifest=manifest(train=rows), objective=objective(budget={"hours": 1000, "money": 1000})))
    assert trained(plan, RungKind.LORA).epochs == epochs


def test_lengths_hold_the_longest_row_and_a_sample_gets_slack() -> None:
    assert trained(make_plan(inputs()), RungKind.LORA).max_length == 99
    many = inputs(manifest=manifest(train=5_000), objective=objective(budget={"hours": 1000, "money": 1000}))
    assert trained(make_plan(many), RungKind.LORA).max_length == 149
    long = make_plan(inputs(tokens=TOKENS.model_copy(update={"prompt_max": 3000})))
    assert trained(long, RungKind.LORA).token_budget == trained(long, RungKind.LORA).max_length == 3007


@pytest.mark.parametrize(("labels", "context", "shots"), [(12, 8192, 12), (3, 8192, 3), (77, 8192, 12), (12, 320, 4), (0, 8192, 8)])
def test_shots_are_one_a_label_as_far_as_the_context_holds(labels: int, context: int, shots: int) -> None:
    counts = {f"l{i}": SplitCounts(train=6, dev=2, test=2) for i in range(labels)}
    plan = make_plan(inputs(manifest=manifest(labels=counts), base=SMALL.model_copy(update={"context": context})))
    assert rung(plan, RungKind.PROMPT, "few-shot").shots == shots
    assert rung(plan, RungKind.PROMPT, "zero-shot").shots == 0


def test_what_the_objective_asks_of_adapters_is_planned_with_its_reason() -> None:
    wishes = {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"], "rslora": True}
    plan = make_plan(inputs(objective=objective(lora=wishes)))
    settings = trained(plan, RungKind.LORA)
    assert settings.lora == LoraSettings(rank=4, alpha=8, targets=("q_proj", "v_proj"), rslora=True)
    assert settings.learning_rate == pytest.approx(trained(make_plan(inputs()), RungKind.LORA).learning_rate / 2)
    reasons = {reason.rule: reason.text for reason in rung(plan, RungKind.LORA).reasons}
    assert "as the objective asks" in reasons["R1"]
    assert "rsLoRA, as" in reasons["R7"]
    assert trained(plan, RungKind.FULL).learning_rate == trained(make_plan(inputs()), RungKind.FULL).learning_rate


@pytest.mark.parametrize(("section", "kind", "other"), [("lora", RungKind.LORA, RungKind.FULL), ("full", RungKind.FULL, RungKind.LORA)])
def test_epochs_and_rate_that_the_objective_asks_for_are_planned_for_that_rung_alone(section: str, kind: RungKind, other: RungKind) -> None:
    plan, untouched = make_plan(inputs(objective=objective(**{section: {"epochs": 7, "learning_rate": 3e-4}}))), make_plan(inputs())
    settings = trained(plan, kind)
    assert (settings.epochs, settings.learning_rate, settings.evaluations_per_epoch) == (7, 3e-4, 1)
    assert settings != trained(untouched, kind)
    assert trained(plan, other) == trained(untouched, other)
    reasons = {reason.rule: reason.text for reason in rung(plan, kind).reasons}
    assert all("as the objective asks" in reasons[rule] for rule in ("R5", "R10"))
    assert rung(plan, kind).time.likely > rung(untouched, kind).time.likely


PLENTY = {"hours": 1000, "money": 1000}


def planned(found: PlanInputs) -> tuple[RungPlan, TrainingSettings]:
    rung = next(rung for rung in make_plan(found).rungs if rung.rung is RungKind.LORA)
    assert rung.training is not None
    return rung, rung.training


def reason(rung: RungPlan, rule: str) -> str:
    return next(reason.text for reason in rung.reasons if reason.rule == rule)


@pytest.mark.parametrize(
    ("share", "added"),
    [
        (1.1, 0),
        (1.7, 2),
    ],
)
def test_no_more_than_the_budget_holds(share: float, added: int) -> None:
    rung, _ = planned(inputs(objective=objective(budget=PLENTY)))
    hours = share * rung.time.likely / 3600
    tight, training = planned(inputs(objective=objective(budget={"hours": hours, "money": 1000})))
    assert (training.epochs, training.waiting_epochs) == (4, added)
    assert ("the budget does not hold them" in reason(tight, "R11")) is (added == 0)
