"""Remedies of a run without a release: what is proven can be asked for, and nobody is sent for items that would only disprove."""

from __future__ import annotations

from support.release import climb, evidence, gate, objective, share
from tailorbird.domain.dataset import Split, SplitCounts
from tailorbird.domain.evidence import Evidence, GateResult, Metric
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


def _tested(*metrics: Metric, look: int) -> tuple[Evidence, GateResult]:
    return evidence(*metrics), gate(*metrics, look=look)


def test_the_target_that_dev_proves_is_named_and_holds() -> None:
    told = remedies(EndedClimb(objective(), _closest(share("accuracy", 350, 400)), COUNTS))
    low = wilson(350, 400, spend(0.9, 1))[0]
    assert low >= 0.84
    assert told[0].startswith("accuracy: a `target` of at most 0.84 is what dev proves of lora")


def test_a_value_short_of_the_target_asks_for_better_answers_and_no_items() -> None:
    told = " ".join(remedies(EndedClimb(objective(), _closest(share("accuracy", 350, 400)), COUNTS)))
    assert "short of 0.9: that takes better answers" in told
    assert "more independent" not in told


def test_items_that_would_prove_it_are_told_as_rows_at_the_present_split() -> None:
    closest = _closest(share("accuracy", 371, 400))
    needed = closest.gate.findings[0].items_needed
    assert needed == 19
    told = remedies(EndedClimb(objective(), closest, COUNTS))
    assert "accuracy: 19 more independent dev items, about 190 more rows at the present split would prove 0.9, if it stays at 0.927" in told


def test_after_a_look_the_target_holds_on_dev_and_at_the_next_look() -> None:
    test = _tested(share("accuracy", 330, 400), look=2)
    told = remedies(EndedClimb(objective(), _closest(share("accuracy", 390, 400)), COUNTS, test, looks=2))
    low = wilson(330, 400, spend(0.9, 3))[0]
    assert told[0].startswith(f"accuracy: a `target` of at most {int(100 * low) / 100:g} is what dev and test together prove of lora")


def test_where_less_is_better_the_target_is_the_upper_end() -> None:
    loss = Metric(name="log_loss", value=0.4, low=0.31, high=0.482, confidence=spend(0.9, 1), n=400, method="bootstrap-bca")
    told = remedies(EndedClimb(objective(kpis=LOSS), _closest(loss, kpis=LOSS), COUNTS))
    assert told[0].startswith("log_loss: a `target` of at least 0.49 is what dev proves of lora")


def test_nothing_is_told_where_nothing_is_measured() -> None:
    told = remedies(EndedClimb(objective(), _closest(), COUNTS))
    assert told == ()
