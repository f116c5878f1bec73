"""What the classical reference reads: vectors where an encoder is installed, may be used and rows are few, or where they are asked for."""

from __future__ import annotations

import pytest

from support.planning import SMALL, inputs, manifest, objective
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.plan import PlannedFloor
from tailorbird.planning import make_plan

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
    assert reason in floor.reason.text
    assert (floor.encoder, floor.name, floor.license) == ((MINI.digest, "mini", "Apache-2.0") if reads else (None, "", ""))


def planned(**changes: object) -> PlannedFloor:
    floor = make_plan(inputs(**{"encoder": MINI} | changes)).floor
    assert floor is not None
    return floor


def test_what_the_memory_does_not_hold_is_refused() -> None:
    assert "GiB of memory and may take 0.1" in planned(objective=objective(budget={"memory_gb": 0.1})).refused


def test_its_role_follows_the_ladder() -> None:
    assert planned().role == "rung"
    assert planned(objective=objective(ladder=["floor", "lora"])).role == "rung"
    assert planned(objective=objective(ladder=["lora"])).role == "reference"
    assert planned(objective=objective(floor="reference")).role == "reference"


def test_only_what_classifies_has_one() -> None:
    wanted = objective(task={"kind": "generate", "instruction": "Answer."}, kpis=[{"metric": "exact_match", "target": 0.5}])
    assert make_plan(inputs(objective=wanted, encoder=MINI)).floor is None
