"""The planned ladder: which rungs, in which order, and why."""

from __future__ import annotations

from support.planning import LARGE, MACHINE, POWER, TOKENS, D, inputs, llama, objective
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Plan, RungPlan, TokenProfile
from tailorbird.planning import make_plan
from tailorbird.planning.estimates import training_memory
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


def encoder(licence: str = "Apache-2.0") -> BaseModelRef:
    found = llama(384, 6, 1536, 384, parameters=22_713_216, vocabulary=30_522)
    return found.model_copy(update={"name": "mini", "digest": D, "license": licence})


def test_an_encoder_is_tuned_where_it_is_installed() -> None:
    listed = objective(ladder=["floor", "encoder", "lora"])
    plan = make_plan(inputs(objective=listed, encoder=encoder()))
    tuned = rung(plan, RungKind.ENCODER)
    assert (tuned.variant, tuned.encoder, tuned.trained_parameters) == ("upper layers, 4 averaged", D, 7_077_888)
    assert tuned.training is not None
    assert not tuned.trains_base
    assert plan.encoder == digest_of(encoder())
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


def test_an_encoder_whose_licence_forbids_the_use_is_not_tuned() -> None:
    business = {"goal": "g", "owner": "o", "risk": "limited", "use": "commercial"}
    plan = make_plan(inputs(objective=objective(ladder=["encoder"], business=business), encoder=encoder("CC-BY-NC-4.0")))
    assert plan.rungs == ()
    [refusal] = plan.left_out
    assert "the licence CC-BY-NC-4.0 of mini clashes with `business.use`" in refusal.reason


def ranking(queries: TokenProfile = TOKENS, **changes: object) -> PlanInputs:
    """13,000 passages and 500 queries."""
    content = {"task": {"kind": "rank", "instruction": "Rank."}, "kpis": [{"metric": "ndcg@10", "target": 0.5}], "margin": 0.02}
    asked = objective(documents=[{"path": "d.jsonl", "source": {"origin": "o", "license": "l"}}], **content, **changes)
    return inputs(objective=asked, base=encoder(), tokens=queries, documents=13_000, document_tokens=90.0)


def test_the_first_rung_that_reads_by_vectors_pays_for_the_index() -> None:
    planned = {f"{one.rung.value} {one.variant}": one for one in make_plan(ranking()).rungs}
    words, meaning, fused, tuned = planned["search words"], planned["search meaning"], *list(planned.values())[2:4]
    assert (words.encoder, words.index_time) == (None, None)
    assert meaning.time.likely > meaning.index_time.likely > 10 * max(words.time.likely, fused.time.likely)
    assert meaning.money.likely > 10 * fused.money.likely
    assert (fused.index_time, tuned.index_time) == (None, None)
    (alone, *_) = make_plan(ranking(ladder=["bi-encoder"])).rungs
    assert alone.index_time == meaning.index_time
    assert alone.time.likely > tuned.time.likely + 0.9 * meaning.index_time.likely
