"""The planned ladder: which rungs, in which order, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.planning import LARGE, MACHINE, POWER, TOKENS, D, inputs, llama, manifest, objective
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Plan, RungPlan, TokenProfile
from tailorbird.planning import cut_texts, make_plan
from tailorbird.planning.estimates import training_memory
from tailorbird.planning.floor import floor_memory
from tailorbird.planning.inputs import PlanInputs


def rung(plan: Plan, kind: RungKind, variant: str | None = None) -> RungPlan:
    return next(r for r in plan.rungs if r.rung is kind and variant in (None, r.variant))


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
        ("nearest", "8 by words"),
        ("lora", "r16"),
        ("lora", "r64"),
        ("full", "all weights"),
    ]
    assert [(r.name, r.reason) for r in plan.left_out] == [
        ("qlora r16", "lora fits the memory, and qlora is no better, only smaller and slower")
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


def test_qlora_that_is_asked_for_is_planned_beside_lora() -> None:
    plan = make_plan(inputs(machine=TIGHT, objective=objective(ladder=["qlora", "lora"])))
    assert [r.rung for r in plan.rungs] == [RungKind.LORA, RungKind.QLORA]


def encoder(licence: str = "Apache-2.0") -> BaseModelRef:
    found = llama(384, 6, 1536, 384, parameters=22_713_216, vocabulary=30_522)
    return found.model_copy(update={"name": "mini", "digest": D, "license": licence})


def test_long_documents_cost_an_encoder_what_it_reads_of_them() -> None:
    """Documents of 7,000 tokens were refused for want of 89 GiB, though no more than 256 tokens of a text are read."""
    machine = MACHINE.model_copy(update={"memory_gb": 400.0})

    def given(more: int) -> PlanInputs:
        tokens = inputs().tokens
        longer = {name: getattr(tokens, name) + more for name in ("prompt_mean", "prompt_p95", "prompt_max")}
        found = objective(ladder=["encoder"])
        return inputs(objective=found, encoder=encoder(), tokens=tokens.model_copy(update=longer), machine=machine)

    def tuning(more: int) -> float:
        """GiB beside what the words of the texts take."""
        tuned = rung(make_plan(given(more)), RungKind.ENCODER)
        assert tuned.memory is not None
        return tuned.memory.likely - floor_memory(given(more), with_vectors=True).likely

    assert tuning(7000) == pytest.approx(tuning(300))
    assert "mini reads the first 256 tokens of a text, and texts have 7,018 on average" in cut_texts(given(7000))
    assert not cut_texts(given(0))


def test_an_encoder_is_tuned_where_it_is_installed() -> None:
    listed = objective(ladder=["floor", "encoder", "lora"])
    plan = make_plan(inputs(objective=listed, encoder=encoder()))
    tuned = rung(plan, RungKind.ENCODER)
    assert (tuned.variant, tuned.encoder, tuned.trained_parameters) == ("upper layers, 4 averaged", D, 7_077_888)
    assert tuned.training is not None
    assert not tuned.trains_base
    assert plan.encoder == digest_of(encoder())
    assert tuned.training_time is not None
    assert 0 < tuned.training_time.likely < tuned.time.likely
    assert plan.rungs[0] == tuned, "it costs less to ask than an adapter"
    without = make_plan(inputs(objective=listed))
    assert without.encoder is None
    assert [(each.name, each.reason.partition(" (")[0]) for each in without.left_out] == [
        ("encoder upper layers, 4 averaged", "no encoder is installed")
    ]
    assert make_plan(inputs(encoder=encoder())).rungs[0].rung is RungKind.ENCODER
    automatic = make_plan(inputs())
    assert RungKind.ENCODER not in {each.rung for each in (*automatic.rungs, *automatic.left_out)}, "the floor tells that there is none"


def test_nobody_tunes_an_encoder_unasked_where_the_objective_lets_the_floor_read_words_alone() -> None:
    words = {"floor": {"vectors": False}}
    assert RungKind.ENCODER not in {each.rung for each in make_plan(inputs(objective=objective(**words), encoder=encoder())).rungs}
    listed = objective(ladder=["floor", "encoder"], **words)
    assert make_plan(inputs(objective=listed, encoder=encoder())).rungs[0].rung is RungKind.ENCODER


@pytest.mark.parametrize("labels", ["one", "many"])
def test_an_adapter_of_the_encoder_is_planned_where_it_is_asked_for(labels: str) -> None:
    task = {"kind": "classify", "labels": labels, "instruction": "Say."}
    kpis = [{"metric": "accuracy" if labels == "one" else "macro_f1", "target": 0.6}]

    def planned(**wishes: object) -> RungPlan:
        listed = objective(ladder=["encoder"], task=task, kpis=kpis, encoder=wishes)
        return rung(make_plan(inputs(objective=listed, encoder=encoder())), RungKind.ENCODER)

    whole, adapter = planned(), planned(method="lora")
    assert (whole.training is None, adapter.training is None) == (False, False)
    lora = adapter.training and adapter.training.lora
    assert lora is not None
    assert (lora.rank, set(lora.targets)) == (16, set(encoder().linear_shapes))
    assert adapter.variant == ("r16, upper layers, 4 averaged" if labels == "one" else "r16")
    assert 0 < adapter.trained_parameters < whole.trained_parameters / 10
    assert adapter.time.likely < whole.time.likely, "no gradients of the weights beside it"
    assert adapter.memory.likely < whole.memory.likely
    assert "docs/design/rungs.md" in {reason.source for reason in adapter.reasons}
    assert planned(method="lora", rank=8).trained_parameters == adapter.trained_parameters / 2


def test_where_a_row_may_bear_several_labels_the_plan_counts_the_rows_that_are_learned() -> None:
    def planned(train: int) -> RungPlan:
        kpis = [{"metric": "macro_f1", "target": 0.6}]
        counts = {"a": SplitCounts(train=100, dev=20, test=20), "b": SplitCounts(train=100, dev=20, test=20)}
        listed = objective(ladder=["encoder"], task={"kind": "classify", "labels": "many", "instruction": "Say."}, kpis=kpis)
        given = inputs(objective=listed, encoder=encoder(), manifest=manifest(train=train, labels=counts))
        return rung(make_plan(given), RungKind.ENCODER)

    few, plenty, more = planned(300), planned(5_000), planned(10_000)
    assert plenty.training is not None
    assert plenty.training.precision == "bf16"
    assert few.training_time.likely < plenty.training_time.likely == more.training_time.likely
    # Readings: three of a row that is learned in a pass, one of each that bears a label, and of those held out one more than passes.
    assert few.training_time.likely / plenty.training_time.likely == pytest.approx(
        (0.8 * (12 * 300 + 200) + 0.2 * 5 * 300) / (0.8 * (12 * 400 + 200) + 400)
    )
    [reason] = [each for each in plenty.reasons if each.rule == "tuning"]
    assert reason.text.startswith("4 passes of 32 rows")
    assert "whose last weights are kept" in reason.text


def test_the_plan_of_averaged_encoders_counts_what_each_reads_to_begin_with() -> None:
    def planned(train: int) -> RungPlan:
        given = inputs(objective=objective(ladder=["encoder"]), encoder=encoder(), manifest=manifest(train=train))
        return rung(make_plan(given), RungKind.ENCODER)

    few, more = planned(1_000), planned(3_000)
    # Six passes and three: each learned row is read twice as dearly as once, once to begin with, and a twentieth before and after.
    names = len(manifest().labels)
    readings = [(2 * passes + 1) * (0.95 * rows + names) + 0.1 * rows for passes, rows in ((6, 1_000), (3, 3_000))]
    assert few.training_time.likely / more.training_time.likely == pytest.approx(readings[0] / readings[1])


def test_an_encoder_whose_licence_forbids_the_use_is_not_tuned() -> None:
    business = {"goal": "g", "owner": "o", "risk": "limited", "use": "commercial"}
    plan = make_plan(inputs(objective=objective(ladder=["encoder"], business=business), encoder=encoder("CC-BY-NC-4.0")))
    assert plan.rungs == ()
    [refusal] = plan.left_out
    assert "the licence CC-BY-NC-4.0 of mini clashes with `business.use`" in refusal.reason


def test_an_encoder_that_takes_longer_than_the_budget_is_left_out() -> None:
    slow = MACHINE.model_copy(update={"fp32_gflops": 0.01})
    plan = make_plan(inputs(objective=objective(ladder=["encoder"]), encoder=encoder(), machine=slow))
    assert [refusal.rung for refusal in plan.left_out] == [RungKind.ENCODER]
    assert "h and the budget is" in plan.left_out[0].reason


def ranking(queries: TokenProfile = TOKENS, **changes: object) -> PlanInputs:
    """13,000 passages and 500 queries."""
    content = {"task": {"kind": "rank", "instruction": "Rank."}, "kpis": [{"metric": "ndcg@10", "target": 0.5}], "margin": 0.02}
    asked = objective(documents=[{"path": "d.jsonl", "source": {"origin": "o", "license": "l"}}], **content, **changes)
    return inputs(objective=asked, base=encoder(), tokens=queries, documents=13_000, document_tokens=90.0)


def test_the_first_rung_that_reads_by_vectors_pays_for_the_index() -> None:
    planned = {f"{one.rung.value} {one.variant}": one for one in make_plan(ranking()).rungs}
    words, meaning, fused, tuned = planned["search words"], planned["search meaning"], *list(planned.values())[2:4]
    assert (words.encoder, words.index_time) == (None, None)
    assert meaning.index_time is not None
    assert meaning.time.likely > meaning.index_time.likely > 10 * max(words.time.likely, fused.time.likely)
    assert meaning.money.likely > 10 * fused.money.likely
    assert (fused.index_time, tuned.index_time) == (None, None)
    (alone, *_) = make_plan(ranking(ladder=["bi-encoder"])).rungs
    assert alone.index_time == meaning.index_time
    assert alone.time.likely > tuned.time.likely + 0.9 * meaning.index_time.likely


def test_words_take_longer_among_more_passages() -> None:
    few, many = (make_plan(replace(ranking(), documents=count)).rungs[0] for count in (100, 1_000_000))
    assert (few.variant, many.variant) == ("words", "words")
    assert many.time.likely > 20 * few.time.likely


def test_padding_of_queries_is_counted() -> None:
    like = TOKENS.model_copy(update={"prompt_mean": 14.0, "layout": "padded", "prompt_max": 60, "target_mean": 0.0})
    one, other = (
        rung(make_plan(ranking(like.model_copy(update={"row_sd": sd}))), RungKind.BI_ENCODER, "r16").training_time for sd in (0.0, 7.0)
    )
    assert one is not None
    assert other is not None
    assert 1.8 < other.likely / one.likely < 2.5


def test_padding_of_texts_is_counted_where_labels_are_learned() -> None:
    one, other = (
        rung(make_plan(inputs(encoder=encoder(), tokens=TOKENS.model_copy(update={"row_sd": sd}))), RungKind.ENCODER).training_time
        for sd in (0.0, 7.0)
    )
    assert one is not None
    assert other is not None
    assert 1.5 < other.likely / one.likely < 2.5


def test_fast_products_speed_a_tuning_up_by_less_than_their_gain() -> None:
    def tuning(bf16: float) -> float:
        machine = MACHINE.model_copy(update={"fp32_gflops": 100.0, "bf16_gflops": bf16})
        time = rung(make_plan(inputs(encoder=encoder(), machine=machine)), RungKind.ENCODER).training_time
        assert time is not None
        return time.likely

    assert 1.5 < tuning(100.0) / tuning(400.0) < 2.5
