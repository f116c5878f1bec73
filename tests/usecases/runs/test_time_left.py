"""What a plan expects of a step and of the climb."""

from __future__ import annotations

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.plan import Estimate, Machine, Plan, PlannedComparison, PlannedFloor, Reason, RungPlan
from tailorbird.domain.run import Outlook
from tailorbird.usecases.runs.transitions import outlook

WHY = Reason(rule="rule", text="text", source="source")


def seconds(likely: float) -> Estimate:
    return Estimate(low=likely / 2, likely=likely, high=2 * likely, unit="s")


def rung(kind: RungKind, variant: str, time: float, training: float | None = None) -> RungPlan:
    return RungPlan(
        rung=kind,
        variant=variant,
        training=None,
        time=seconds(time),
        memory=Estimate(low=1, likely=1, high=1, unit="GiB"),
        money=Estimate(low=1, likely=1, high=1, unit="EUR"),
        training_time=seconds(training) if training else None,
        reasons=(),
    )


PLAN = Plan(
    objective="sha256:" + "0" * 64,
    snapshot="sha256:" + "1" * 64,
    base_model="sha256:" + "2" * 64,
    machine=Machine(cores=2, memory_gb=8),
    rungs=(rung(RungKind.PROMPT, "zero-shot", 20), rung(RungKind.LORA, "r16", 330, 300)),
    left_out=(),
    dev_power=(),
    test_power=(),
    comparison=PlannedComparison(metric="accuracy", margin=0.02, unit="", dev_smallest=0.1, test_smallest=0.1, reason=WHY),
    memory_limit_gb=0.0,
    risk=RiskTier.LIMITED,
    floor=PlannedFloor(role="rung", reason=WHY, time=seconds(10)),
)


def test_the_climb_is_at_most_all_that_is_planned_and_a_look_at_the_test() -> None:
    assert outlook(PLAN, "floor", {"snapshot", "plan"}) == Outlook(step=10, climb=10 + 20 + 330 + 30)
    assert outlook(PLAN, "make lora r16", {"floor", "make prompt zero-shot", "measure prompt zero-shot"}) == Outlook(step=300, climb=360)
    done = {"floor", "make prompt zero-shot", "measure prompt zero-shot", "make lora r16", "measure lora r16", "choose"}
    assert outlook(PLAN, "test", done) == Outlook(step=None, climb=30)
    assert outlook(PLAN, "conclude", done) == Outlook()
