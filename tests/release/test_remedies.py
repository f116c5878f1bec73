"""Remedies of a run without a release: what is proven can be asked for, and nobody is sent for items that would only disprove."""

from __future__ import annotations

from support.release import climb, evidence, objective, share
from tailorbird.domain.dataset import Split, SplitCounts
from tailorbird.domain.evidence import Metric
from tailorbird.domain.ladder import Choice, Climb
from tailorbird.domain.objective import Kpi
from tailorbird.release import EndedClimb, GateInputs, apply_gate, remedies
from tailorbird.stats.intervals import spend, wilson

COUNTS = SplitCounts(train=800, dev=100, test=100)
LOSS = (Kpi(metric="log_loss", target=0.3),)


def _closest(*metrics: Metric, **changes: object) -> Climb:
    found = evidence(*metrics, split=Split.DEV)
    judged = apply_gate(GateInputs(objective=objective(**changes), evidence=found, look=1))
    return climb("lora", 80, Choice.CLIMB).model_copy(update={"evidence": found, "gate": judged})


def test_the_target_that_dev_proves_is_named_and_holds() -> None:
    told = remedies(EndedClimb(objective(), _closest(share("accuracy", 350, 400)), COUNTS))
    low = wilson(350, 400, spend(0.9, 1))[0]
    assert low >= 0.84
    assert " 0.84 " in told[0]


def test_items_that_would_prove_it_are_told_as_rows_at_the_present_split() -> None:
    closest = _closest(share("accuracy", 371, 400))
    needed = closest.gate.findings[0].items_needed
    assert needed == 19
    told = remedies(EndedClimb(objective(), closest, COUNTS))
    assert any(" 19 " in line and " 190 " in line for line in told)


def test_nobody_is_sent_for_more_than_a_million_items() -> None:
    closest = _closest(share("accuracy", 371, 400))
    for needed, named in ((1_000_000, True), (1_000_001, False), (None, False)):
        (finding,) = closest.gate.findings
        gate = closest.gate.model_copy(update={"findings": (finding.model_copy(update={"items_needed": needed}),)})
        lines = remedies(EndedClimb(objective(), closest.model_copy(update={"gate": gate}), COUNTS))
        assert any("more independent" in line for line in lines) is named


def test_where_less_is_better_the_target_is_the_upper_end() -> None:
    loss = Metric(name="log_loss", value=0.4, low=0.31, high=0.482, confidence=spend(0.9, 1), n=400, method="bootstrap-bca")
    told = remedies(EndedClimb(objective(kpis=LOSS), _closest(loss, kpis=LOSS), COUNTS))
    assert " 0.49 " in told[0]
