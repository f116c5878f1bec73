"""Banking77, real customers' messages: six intents, three rungs. Asserts the rules of the decision, not its outcome."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from support.e2e import Desk, write_objective, write_rows
from tailorbird.domain.evidence import Evidence, Finding, GateResult, Verdict
from tailorbird.domain.ladder import Choice, Climb, Conclusion, Ladder, RungKind, SealedTest
from tailorbird.domain.objective import RiskTier
from tailorbird.ledger import open_ledger
from tailorbird.stats.intervals import spend

pytestmark = pytest.mark.slow

#: Intents that customers (and models) confuse with one another.
INTENTS = (
    "card_arrival",
    "card_delivery_estimate",
    "compromised_card",
    "pending_card_payment",
    "transfer_not_received_by_recipient",
    "Refund_not_showing_up",
)
TARGET = 0.70
#: Messages of each intent to learn from, to develop on and to test on.
TRAIN, DEV, TEST = 30, 15, 20


def rows_of(path: Path, per_intent: int, skip: int = 0) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    return [row for intent in INTENTS for row in [r for r in rows if r[1] == intent][skip : skip + per_intent]]


@pytest.fixture(scope="module")
def record(desk: Desk, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of one climb over all three rungs: messages to learn from, others to develop on, the official test.

    Both trainings are told to end early, when they are far above the untouched model: how long the planner would have them learn is for
    its own tests.
    """
    folder = tmp_path_factory.mktemp("banking77")
    source = {"origin": "PolyAI banking77", "license": "CC-BY-4.0", "collected": "2020-03", "consent": "public"}
    train, official = test_data / "banking77" / "train.csv", test_data / "banking77" / "test.csv"
    files = {"train": rows_of(train, TRAIN), "dev": rows_of(train, DEV, skip=TRAIN), "test": rows_of(official, TEST)}
    for split, rows in files.items():
        write_rows(folder / f"{split}.csv", rows)
    path = write_objective(
        folder,
        name="banking-intents",
        data=[{"path": f"{split}.csv", "split": split, "source": source} for split in files],
        kpis=[{"metric": "accuracy", "target": TARGET}],
        ladder=["prompt", "lora", "full"],
        lora={"epochs": 2},
        full={"epochs": 1},
    )
    conclusion = Conclusion.model_validate(desk.json("adapt", str(path)))
    ledger = open_ledger(f"sqlite:///{desk.workspace / 'tailorbird.db'}")
    with ledger.work("acme", write=False) as work:
        ladder = work.records.get(Ladder, conclusion.ladder)
        test = work.records.get(SealedTest, conclusion.test) if conclusion.test else None
        gate = work.records.get(GateResult, test.gate) if test else None
        evidence = work.records.get(Evidence, test.evidence) if test else None
    ledger.close()
    return {"conclusion": conclusion, "ladder": ladder, "test": test, "gate": gate, "evidence": evidence}


def finding_of(gate: GateResult) -> Finding:
    return next(finding for finding in gate.findings if finding.name == "accuracy")


def expected_verdict(low: float, high: float) -> Verdict:
    if low >= TARGET:
        return Verdict.PASS
    return Verdict.FAIL if high < TARGET else Verdict.INCONCLUSIVE


def test_all_three_rungs_were_climbed_on_the_same_items(record: dict[str, Any]) -> None:
    climbs: tuple[Climb, ...] = record["ladder"].climbs
    assert {climb.rung for climb in climbs} == {RungKind.PROMPT, RungKind.LORA, RungKind.FULL}
    assert len({climb.evidence.n for climb in climbs}) == 1
    assert [climb.trained_parameters > 0 for climb in climbs] == [climb.rung is not RungKind.PROMPT for climb in climbs]
    assert all(climb.choice is Choice.CLIMB for climb in climbs[:-1])
    assert climbs[-1].choice is Choice.STOP


def test_training_is_better_than_the_untouched_model(record: dict[str, Any]) -> None:
    """The one outcome that is safe to assert: the model really learns."""
    by_rung = {climb.rung: climb.evidence.metrics["accuracy"] for climb in record["ladder"].climbs}
    assert by_rung[RungKind.LORA].low > by_rung[RungKind.PROMPT].high
    assert by_rung[RungKind.FULL].low > by_rung[RungKind.PROMPT].high


def test_the_sealed_test_was_opened_once_and_judged_by_the_same_rule(record: dict[str, Any]) -> None:
    gate: GateResult | None = record["gate"]
    if gate is None:
        assert record["ladder"].chosen is None
        return
    found = finding_of(gate)
    assert record["evidence"].n == TEST * len(INTENTS)
    assert gate.look == 1
    assert gate.adjusted_confidence == pytest.approx(spend(RiskTier.MINIMAL.confidence, 1))
    assert found.low is not None
    assert found.high is not None
    assert gate.verdict is expected_verdict(found.low, found.high)
    assert (record["conclusion"].release is not None) == (gate.verdict is Verdict.PASS)
