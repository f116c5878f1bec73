"""Plans: the rules with their reasons, estimates that move the right way and meet published numbers, and rungs left out with the number."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.planning import LARGE, MACHINE, POWER, SMALL, TOKENS, inputs, llama, manifest, objective
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import LoraSettings, Machine, Plan, RungPlan, TokenProfile, TrainingSettings
from tailorbird.domain.timing import Calibration, TimedPass
from tailorbird.planning import PlanInputs, make_plan
from tailorbird.planning.flops import (
    FlopsWork,
    adapter_parameters,
    backbone_parameters,
    forward_flops,
    parameters_per_rank,
    step_flops,
    training_flops,
)
from tailorbird.planning.ladder import ranking_rungs
from tailorbird.planning.memory import training_memory


def rung(plan: Plan, kind: RungKind, variant: str | None = None) -> RungPlan:
    return next(r for r in plan.rungs if r.rung is kind and variant in (None, r.variant))


def trained(plan: Plan, kind: RungKind) -> TrainingSettings:
    settings = rung(plan, kind).training
    assert settings is not None
    return settings


# --- the ladder -------------------------------------------------------------------------------------------------------------------------


def test_auto_climbs_from_the_cheapest_and_says_why() -> None:
    plan = make_plan(inputs())
    assert [(r.rung.value, r.variant) for r in plan.rungs] == [
        ("prompt", "zero-shot"),
        ("lora", "r16"),
        ("lora", "r64"),
        ("full", "all weights"),
        ("prompt", "few-shot"),
        ("nearest", "8 by words"),
    ]
    few = make_plan(inputs(objective=objective(traffic={"per_month": 0})))
    assert [(r.rung.value, r.variant) for r in few.rungs] == [
        ("prompt", "zero-shot"),
        ("prompt", "few-shot"),
        ("lora", "r16"),
        ("lora", "r64"),
        ("nearest", "8 by words"),
        ("full", "all weights"),
    ]
    assert [(r.rung, r.reason) for r in plan.left_out] == [
        (RungKind.QLORA, "r16: lora fits the memory, and qlora is no better, only smaller and slower")
    ]
    assert plan.dev_power == (POWER,)
    for planned in plan.rungs:
        assert planned.reasons
        assert all(reason.text and reason.source for reason in planned.reasons)
        for estimate in (planned.time, planned.memory, planned.money):
            assert 0 <= estimate.low <= estimate.likely <= estimate.high
    assert {reason.rule for reason in rung(plan, RungKind.LORA).reasons} >= {"order", "R1", "R4", "R5", "R6", "R10", "length", "precision"}
    assert digest_of(plan) == digest_of(make_plan(inputs()))


def test_an_explicit_ladder_is_put_into_the_order_of_cost_and_says_so() -> None:
    plan = make_plan(inputs(objective=objective(ladder=["full", "floor", "lora"])))
    assert [r.rung for r in plan.rungs] == [RungKind.LORA, RungKind.FULL]
    assert "in the order of what they cost, making and 120,000 requests together" in plan.rungs[0].reasons[0].text
    assert plan.left_out == ()  # the floor stands beside the ladder, and is no rung to plan
    kept = make_plan(inputs(objective=objective(ladder=["prompt", "lora", "full"])))
    assert len(kept.rungs) == 4
    assert kept.rungs[0].reasons[0].text.startswith("the objective asks for prompt, lora, full: all are tried")


TIGHT = MACHINE.model_copy(update={"memory_gb": 20.0, "four_bit": True})
RICH = {"hours": 1e6, "money": 1e6}


def test_qlora_stands_in_where_lora_does_not_fit_the_memory() -> None:
    plan = make_plan(inputs(base=LARGE, machine=TIGHT, objective=objective(budget=RICH)))
    assert RungKind.QLORA in {r.rung for r in plan.rungs}
    assert {r.rung for r in plan.left_out} == {RungKind.LORA, RungKind.FULL}
    planned = rung(plan, RungKind.QLORA)
    assert planned.training is not None
    assert planned.training.method == "qlora"
    assert any(reason.rule == "memory" and "4 bits" in reason.text for reason in planned.reasons)
    roomy = make_plan(inputs(base=LARGE, machine=TIGHT.model_copy(update={"memory_gb": 64.0}), objective=objective(budget=RICH)))
    lora, full = rung(roomy, RungKind.LORA), next(r for r in roomy.left_out if r.rung is RungKind.FULL)
    assert "memory" in full.reason
    assert lora.training is not None
    assert training_memory(inputs(base=LARGE), planned.training).likely < 0.65 * training_memory(inputs(base=LARGE), lora.training).likely
    assert rung(plan, RungKind.PROMPT).memory.likely <= planned.memory.likely < lora.memory.likely
    assert planned.time.likely > lora.time.likely
    assert planned.trained_parameters == lora.trained_parameters


def test_a_memory_budget_asks_for_qlora_too() -> None:
    needs = rung(make_plan(inputs()), RungKind.LORA).memory.likely
    four_bit = MACHINE.model_copy(update={"four_bit": True})
    plan = make_plan(inputs(machine=four_bit, objective=objective(budget={"memory_gb": needs - 0.01})))
    assert RungKind.QLORA in {r.rung for r in plan.rungs}
    assert RungKind.LORA not in {r.rung for r in plan.rungs}


def test_without_bitsandbytes_qlora_is_left_out_with_what_to_install() -> None:
    without = TIGHT.model_copy(update={"four_bit": False})
    plan = make_plan(inputs(base=LARGE, machine=without, objective=objective(budget=RICH)))
    refused = next(r for r in plan.left_out if r.rung is RungKind.QLORA)
    assert "bitsandbytes" in refused.reason


def test_qlora_that_is_asked_for_is_planned_beside_lora() -> None:
    plan = make_plan(inputs(machine=TIGHT, objective=objective(ladder=["qlora", "lora"])))
    assert [r.rung for r in plan.rungs] == [RungKind.LORA, RungKind.QLORA]


# --- rules ------------------------------------------------------------------------------------------------------------------------------


def test_published_adapter_sizes() -> None:
    """Weights per rank over all linear layers, as published for five models (three checked here)."""
    llama_1b, llama_8b = llama(2048, 16, 8192, 512, parameters=1), llama(4096, 32, 14336, 1024, parameters=1)
    assert [parameters_per_rank(base, tuple(base.linear_shapes)) for base in (SMALL, llama_1b, llama_8b)] == [305_280, 704_512, 2_621_440]
    assert backbone_parameters(SMALL) == 106_168_320


@pytest.mark.parametrize(
    ("answer_tokens", "rank", "enough"), [(4.0, 16, True), (12_000.0, 32, True), (30_000.0, 64, True), (60_000.0, 64, False)]
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
@pytest.mark.parametrize(("rows", "ratio", "of_full"), [(120, 15, 2), (900, 15, 2), (1_900, 10, 1)])
def test_lora_learns_ten_times_as_fast_as_full_and_short_runs_faster(
    hidden: int, full_rate: float, rows: int, ratio: int, of_full: int
) -> None:
    hours = objective(budget={"hours": 1000, "money": 1000})
    plan = make_plan(inputs(base=llama(hidden, 4, 1536, 192, parameters=10_000_000), manifest=manifest(train=rows), objective=hours))
    assert trained(plan, RungKind.FULL).learning_rate == pytest.approx(of_full * full_rate)
    assert trained(plan, RungKind.LORA).learning_rate == pytest.approx(ratio * full_rate)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(16, 10), (120, 10), (240, 8), (400, 5), (480, 4), (600, 3), (1_999, 3), (2_000, 2), (20_000, 2), (20_001, 1)]
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


def test_precision_follows_the_processor_and_not_a_timing_that_a_load_could_turn() -> None:
    assert trained(make_plan(inputs()), RungKind.LORA).precision == "bf16"
    without = MACHINE.model_copy(update={"fast_bf16": False})
    assert trained(make_plan(inputs(machine=without)), RungKind.LORA).precision == "fp32"
    busy = MACHINE.model_copy(update={"bf16_gflops": 150.0})
    assert trained(make_plan(inputs(machine=busy)), RungKind.LORA).precision == "bf16"


@pytest.mark.parametrize(("labels", "context", "shots"), [(12, 8192, 12), (3, 8192, 3), (77, 8192, 12), (12, 320, 4), (0, 8192, 8)])
def test_shots_are_one_a_label_as_far_as_the_context_holds(labels: int, context: int, shots: int) -> None:
    counts = {f"l{i}": SplitCounts(train=6, dev=2, test=2) for i in range(labels)}
    plan = make_plan(inputs(manifest=manifest(labels=counts), base=SMALL.model_copy(update={"context": context})))
    assert rung(plan, RungKind.PROMPT, "few-shot").shots == shots
    assert rung(plan, RungKind.PROMPT, "zero-shot").shots == 0


def test_what_the_objective_asks_of_adapters_is_planned_with_its_reason() -> None:
    wishes = {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"], "rslora": True, "b_rate": 16}
    plan = make_plan(inputs(objective=objective(lora=wishes)))
    settings = trained(plan, RungKind.LORA)
    assert settings.lora == LoraSettings(rank=4, alpha=8, targets=("q_proj", "v_proj"), rslora=True, b_rate=16)
    assert settings.learning_rate == pytest.approx(trained(make_plan(inputs()), RungKind.LORA).learning_rate / 2)
    reasons = {reason.rule: reason.text for reason in rung(plan, RungKind.LORA).reasons}
    assert "as the objective asks" in reasons["R1"]
    assert "rsLoRA, LoRA+ (16)" in reasons["R7"]
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


def test_encoders_are_tuned_as_long_and_as_fast_as_the_objective_asks() -> None:
    wish = {"task": {"kind": "rank", "instruction": "Find."}, "kpis": [{"metric": "ndcg@10", "target": 0.4}]}
    usual, asked = (
        ranking_rungs(inputs(objective=objective(**wish, **more))) for more in ({}, {"lora": {"epochs": 2, "learning_rate": 4e-4}})
    )
    tuned = {(one.rung, one.training.method): one.training for one in asked if one.training}
    assert (tuned[RungKind.BI_ENCODER, "lora"].epochs, tuned[RungKind.BI_ENCODER, "lora"].learning_rate) == (2, 4e-4)
    assert tuned[RungKind.BI_ENCODER, "full"] == next(one.training for one in usual if one.training and one.training.method == "full")
    assert sum(one.time.likely for one in asked) < sum(one.time.likely for one in usual)


def test_a_target_that_the_base_lacks_is_named_before_anything_is_spent() -> None:
    plan = make_plan(inputs(objective=objective(lora={"targets": ["q_proj", "c_attn"]})))
    refused = next(r for r in plan.left_out if r.rung is RungKind.LORA)
    assert "no linear layer c_attn, but q_proj" in refused.reason


# --- estimates --------------------------------------------------------------------------------------------------------------------------


def test_measured_rates_lie_within_the_estimate() -> None:
    """On 2 cores at 435 GFLOP/s bf16, LoRA r16 trained at 323-362 tokens a second: 128 rows of 42 tokens, batch 16, no prefix shared."""
    tokens = TOKENS.model_copy(update={"shared_prefix": 0, "target_mean": 5.7})
    plan = make_plan(inputs(tokens=tokens, manifest=manifest(train=142, dev=1)))
    settings = trained(plan, RungKind.LORA)
    steps = settings.epochs * 8
    seconds = steps * 16 * 42 / 342
    estimate = rung(plan, RungKind.LORA).time
    assert estimate.low < seconds < estimate.high


def timed_steps(settings: TrainingSettings, found: PlanInputs, rate: float) -> Calibration:
    """What a machine measures that reaches ``rate`` FLOP/s at every length, and whose updates and writes cost nothing."""
    passes = []
    for tokens in (100, 1_000):
        work = FlopsWork(tokens, tokens * 40, tokens // 10)
        both, forward = step_flops(found, settings.lora, work) / rate, forward_flops(found, work) / rate
        sizes = {"tokens": work.tokens, "pairs": work.pairs, "answers": work.answers}
        passes.append(TimedPass(**sizes, seconds=both, forward_seconds=forward, peak_gb=1.0))
    kept = {
        "machine": "m",
        "base_model": found.base.digest,
        "measured_at": datetime(2026, 1, 1, tzinfo=UTC),
        "process_gb": 0.3,
        "held_gb": 0.6,
    }
    rest = {"update_seconds": 0.0, "read_seconds": 1.0, "write_mb_s": 1e12, "trained_parameters": 1}
    return Calibration.model_validate({"settings": settings, "passes": passes, **kept, **rest})


@pytest.mark.parametrize("rate", [1e11, 4e11])
@pytest.mark.parametrize("kind", [RungKind.LORA, RungKind.FULL])
def test_timed_steps_give_the_time_of_the_whole_run(kind: RungKind, rate: float) -> None:
    """On a machine that is a clock of FLOPs, the loop takes all its FLOPs over the rate."""
    found = inputs(manifest=manifest(train=9_000))
    settings = trained(make_plan(found), kind)
    timed = inputs(manifest=manifest(train=9_000), calibrations=(timed_steps(settings, found, rate),))
    planned = rung(make_plan(timed), kind, None if kind is RungKind.FULL else "r16")
    assert planned.calibrated == "2026-01-01"
    assert planned.training_time is not None
    assert planned.training_time.likely == pytest.approx(training_flops(timed, settings) / rate, rel=0.02)


def test_steps_that_were_timed_beside_other_work_leave_no_rung_out_by_time() -> None:
    """The likely time is beyond the budget; the low end of an interval that is wide on such a reading is not."""
    small = inputs(manifest=manifest(train=9_000))
    settings = trained(make_plan(small), RungKind.FULL)
    seconds = training_flops(small, settings) / 1e11
    budget = objective(budget={"money": 1000, "hours": 0.8 * seconds / 3600})
    timed = timed_steps(settings, small, 1e11)
    for loaded, reasons in ((False, ["full"]), (True, [])):
        found = inputs(manifest=manifest(train=9_000), objective=budget, calibrations=(timed.model_copy(update={"loaded": loaded}),))
        plan = make_plan(found)
        assert [
            r.rung.value for r in plan.left_out if "needs about" in r.reason and "budget" in r.reason and r.rung is RungKind.FULL
        ] == reasons
        if loaded:
            planned = rung(plan, RungKind.FULL)
            assert planned.calibrated == "2026-01-01 beside other work"
            assert planned.training_time is not None
            assert planned.training_time.high / planned.training_time.likely == pytest.approx(1.6)


def test_finished_trainings_correct_an_estimate() -> None:
    found = inputs(manifest=manifest(train=9_000))
    timed = timed_steps(trained(make_plan(found), RungKind.LORA), found, 1e11)
    estimates = []
    for correction in (1.0, 1.5):
        corrected = timed.model_copy(update={"correction": correction})
        plan = make_plan(inputs(manifest=manifest(train=9_000), calibrations=(corrected,)))
        estimates.append(rung(plan, RungKind.LORA).training_time)
    plain, more = estimates
    assert plain is not None
    assert more is not None
    assert more.likely == pytest.approx(1.5 * plain.likely)


def test_the_number_of_threads_is_frozen_and_tells_timings_apart() -> None:
    machine = MACHINE.model_copy(update={"threads": 2})
    settings = trained(make_plan(inputs(machine=machine)), RungKind.LORA)
    assert settings.threads == 2
    timed = timed_steps(settings, inputs(), 1e11)
    assert rung(make_plan(inputs(machine=machine, calibrations=(timed,))), RungKind.LORA).calibrated
    assert not rung(make_plan(inputs(calibrations=(timed,))), RungKind.LORA).calibrated
    assert "threads" not in trained(make_plan(inputs()), RungKind.LORA).model_dump(), "old settings keep their digests"


def test_timed_steps_count_the_moments_and_the_bytes_of_checkpoints() -> None:
    """Weights and the best weights before the first step; then, with every look, two moments beside them. Steps take no time here."""
    settings = trained(make_plan(inputs()), RungKind.FULL)
    timed = timed_steps(settings, inputs(), 1e30)
    timed = timed.model_copy(update={"write_mb_s": 100.0, "moments_seconds": 2.0, "trained_parameters": SMALL.parameters})
    planned = rung(make_plan(inputs(calibrations=(timed,))), RungKind.FULL)
    later = settings.epochs * settings.evaluations_per_epoch
    assert planned.training_time is not None
    assert planned.training_time.likely == pytest.approx(2.0 + (8 + 16 * later) * SMALL.parameters / 100e6, rel=1e-3)


def test_flops_of_lora_are_two_thirds_of_full_where_the_backbone_rules() -> None:
    plan = make_plan(inputs())
    lora, full = (training_flops(inputs(), trained(plan, kind)) for kind in (RungKind.LORA, RungKind.FULL))
    assert 0.62 < lora / full < 0.75


def test_memory_meets_the_published_peaks() -> None:
    """PEFT's MetaMathQA bench, Llama-3.2-3B in bf16, batches of 4 x 768 tokens: LoRA r32 on q and v 20.8 GiB, on the MLP 23.0 GiB.

    Of these 4.4 GiB are logits (three fp32 copies), of which our loop holds 256 rows.
    """
    base = llama(3072, 28, 8192, 1024, parameters=3_212_749_824, vocabulary=128_256)
    tokens = TokenProfile(shared_prefix=0, prompt_mean=1, prompt_p95=384, prompt_max=1, target_mean=767, target_max=767, label_trie=0)
    given_inputs = inputs(base=base, tokens=tokens, machine=MACHINE.model_copy(update={"gpus": ("L40S",)}))
    settings = trained(make_plan(inputs()), RungKind.LORA)
    for rank, targets, measured in ((32, ("q_proj", "v_proj"), 20.8), (10, ("gate_proj", "up_proj", "down_proj"), 23.0)):
        adapter = LoraSettings(rank=rank, alpha=32, targets=targets)
        run = settings.model_copy(update={"lora": adapter, "batch_size": 4, "token_budget": 3200, "precision": "bf16"})
        estimate = training_memory(given_inputs, run)
        without_logits = measured - 3 * 4 * 3072 * base.vocabulary / 2**30
        assert estimate.likely == pytest.approx(without_logits, rel=0.06)
        assert estimate.low < without_logits < estimate.high
        assert adapter_parameters(base, adapter) < 0.01 * base.parameters


@given(st.integers(50, 5_000), st.floats(1.1, 4.0))
def test_more_rows_cost_more_and_faster_machines_less(rows: int, faster: float) -> None:
    rich = objective(budget={"hours": 1e5, "money": 1e5})
    few = make_plan(inputs(objective=rich, manifest=manifest(train=rows)))
    fast = MACHINE.model_copy(update={"fp32_gflops": 146 * faster, "bf16_gflops": 435 * faster})
    for kind in (RungKind.LORA, RungKind.FULL):
        quicker = make_plan(inputs(objective=rich, manifest=manifest(train=rows), machine=fast))
        assert rung(quicker, kind).time.likely < rung(few, kind).time.likely
        settings = trained(few, kind)
        more = training_flops(inputs(manifest=manifest(train=rows + 100)), settings)
        assert more > training_flops(inputs(manifest=manifest(train=rows)), settings)
    assert rung(few, RungKind.LORA).memory.likely < rung(few, RungKind.FULL).memory.likely


# --- rungs left out ---------------------------------------------------------------------------------------------------------------------


def test_a_machine_too_small_leaves_out_full_and_names_one_that_would_do() -> None:
    plan = make_plan(inputs(objective=objective(budget={"memory_gb": 2.5})))
    assert [r.rung for r in plan.left_out] == [RungKind.QLORA, RungKind.FULL]
    assert "GiB" in plan.left_out[1].reason
    assert RungKind.LORA in {r.rung for r in plan.rungs}


def test_an_infeasible_rung_of_an_explicit_ladder_is_refused_alike() -> None:
    plan = make_plan(inputs(objective=objective(ladder=["full"], budget={"memory_gb": 1.0})))
    assert plan.rungs == ()
    assert "needs about" in plan.left_out[0].reason


def test_a_budget_that_affords_nothing_says_what_each_rung_costs() -> None:
    plan = make_plan(inputs(objective=objective(budget={"money": 0})))
    assert plan.rungs == ()
    assert len(plan.left_out) == 7
    assert all("budget is 0 EUR" in r.reason for r in plan.left_out)
    short = make_plan(inputs(objective=objective(budget={"hours": 0.05}), manifest=manifest(train=9000)))
    assert {r.rung for r in short.left_out} == {RungKind.NEAREST, RungKind.LORA, RungKind.QLORA, RungKind.FULL}
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
