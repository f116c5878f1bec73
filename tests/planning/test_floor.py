"""What the classical reference reads: vectors where an encoder is installed, may be used and rows are few, or where they are asked for."""

from __future__ import annotations

import pytest

from support.planning import MACHINE, SMALL, inputs, manifest, objective
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.plan import Estimate, PlannedFloor
from tailorbird.planning import make_plan
from tailorbird.planning.estimates import PROCESS_GIB

MINI = SMALL.model_copy(update={"name": "mini", "license": "Apache-2.0"})
RESTRICTED = MINI.model_copy(update={"license": "CC-BY-NC-4.0"})


@pytest.mark.parametrize(
    ("asked", "train", "encoder", "reads", "reason"),
    [
        ("auto", 480, MINI, True, "words, and vectors of 480 training texts by mini"),
        ("auto", 20_001, MINI, False, "20,001 training rows are more than 20,000"),
        (True, 20_001, MINI, True, "words, and vectors of 20,001 training texts by mini"),
        (False, 480, MINI, False, "as the objective asks"),
        ("auto", 480, None, False, "no encoder is installed (tailorbird models pull minilm-l6-v2)"),
        ("auto", 480, RESTRICTED, False, "the licence CC-BY-NC-4.0 of mini clashes"),
    ],
)
def test_vectors_or_words_alone_with_the_reason(asked: object, train: int, encoder: object, reads: bool, reason: str) -> None:
    wanted = objective(floor={"vectors": asked}, business={"goal": "g", "owner": "o", "risk": "limited", "use": "commercial"})
    rows = manifest(train=train).model_copy(update={"counts": SplitCounts(train=train, dev=180, test=180)})
    floor = make_plan(inputs(objective=wanted, manifest=rows, encoder=encoder)).floor
    assert floor is not None
    assert reason in floor.reason.text
    assert (floor.encoder, floor.name, floor.license) == ((MINI.digest, "mini", "Apache-2.0") if reads else (None, "", ""))


def planned(**changes: object) -> PlannedFloor:
    floor = make_plan(inputs(**{"encoder": MINI} | changes)).floor
    assert floor is not None
    return floor


def test_it_is_estimated_as_a_rung_is_and_vectors_apart() -> None:
    both, words = planned(), planned(encoder=None)
    for floor in (both, words):
        for estimate in (floor.time, floor.memory, floor.money, floor.energy, floor.serving_cost):
            assert estimate is not None
            assert 0 < estimate.low <= estimate.likely <= estimate.high
    assert both.vectors_time is not None
    assert words.vectors_time is None
    assert both.time is not None
    assert words.time is not None
    assert both.time.likely > words.time.likely + both.vectors_time.likely, "fitting takes longer, too"
    more = planned(manifest=manifest(train=4800))
    assert more.vectors_time is not None
    assert more.vectors_time.likely / both.vectors_time.likely == pytest.approx((4800 + 180) / (480 + 180))


@pytest.mark.parametrize(("vectors", "reads", "refused"), [("auto", False, False), (True, True, True)])
def test_vectors_beyond_the_budget_are_left_out_unless_they_are_asked_for(vectors: object, reads: bool, refused: bool) -> None:
    machine = MACHINE.model_copy(update={"fp32_gflops": 0.05})
    floor = planned(machine=machine, objective=objective(floor={"vectors": vectors}, budget={"hours": 1}))
    assert (floor.encoder is not None, bool(floor.refused)) == (reads, refused)
    assert "h and the budget is 1 h" in (floor.refused or floor.reason.text)


def test_what_the_memory_does_not_hold_is_refused() -> None:
    assert "GiB of memory and may take 0.1" in planned(objective=objective(budget={"memory_gb": 0.1})).refused


def test_the_vectors_that_requests_are_compared_with_are_in_the_memory() -> None:
    task = {"kind": "classify", "instruction": "Classify."}
    scoped = objective(task=task | {"out_of_scope": {"refuse_known_at_most": 0.05}}, floor={"vectors": True}, budget={"memory_gb": 1e3})
    plain = objective(task=task, floor={"vectors": True}, budget={"memory_gb": 1e3})
    many, few = ({"manifest": manifest(train=rows)} for rows in (200_000, 480))
    gib = {
        (each, rows): planned(objective=wanted, **given).memory
        for each, wanted in (("scoped", scoped), ("plain", plain))
        for rows, given in (("many", many), ("few", few))
    }
    more = {rows: _likely(gib["scoped", rows]) - _likely(gib["plain", rows]) for rows in ("many", "few")}
    once = 4 * 384 * 200_000 / 2**30
    assert 3 * once < more["many"] < 5 * once
    assert 0 < more["few"] < 0.1
    words = [planned(objective=wanted, encoder=None).memory for wanted in (scoped, plain)]
    assert words[0] == words[1], "words alone are compared with nothing"


def _likely(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.likely


def test_its_role_follows_the_ladder() -> None:
    assert planned().role == "rung"
    assert planned(objective=objective(ladder=["floor", "lora"])).role == "rung"
    assert planned(objective=objective(ladder=["lora"])).role == "reference"
    assert planned(objective=objective(floor="reference")).role == "reference"


def test_only_what_classifies_has_one() -> None:
    wanted = objective(task={"kind": "generate", "instruction": "Answer."}, kpis=[{"metric": "exact_match", "target": 0.5}])
    assert make_plan(inputs(objective=wanted, encoder=MINI)).floor is None


def test_the_memory_is_that_of_the_whole_process() -> None:
    """A floor of a few rows takes no less than the interpreter and its libraries, as every rung's estimate counts them."""
    memory = planned().memory
    assert memory is not None
    assert memory.low >= PROCESS_GIB


def test_an_adapter_of_the_encoder_is_planned_whatever_the_layers_of_the_base_are_called() -> None:
    layers = {"query": (576, 576), "dense": (576, 1536)}
    asked = objective(ladder=["encoder"], encoder={"method": "lora"})
    plan = make_plan(inputs(objective=asked, encoder=MINI.model_copy(update={"linear_shapes": layers})))
    assert [rung.rung.value for rung in plan.rungs] == ["encoder"]
