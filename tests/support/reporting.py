"""Literals to be shown: a ladder of three rungs and a floor, a gate, a plan, a release, a request."""

from __future__ import annotations

import support.ledger_samples as sample
from support.release import NOW, name_of, person
from support.release import climb as a_climb
from support.release import decision as a_decision
from support.release import manifest as a_manifest
from support.release import objective as an_objective
from support.release import release as a_release
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.event import Event, LogEntry
from tailorbird.domain.evidence import Comparison, Evidence, Finding, GateResult, Metric, Standing, Verdict
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import Choice, Climb, Ladder, Refusal, RungKind
from tailorbird.domain.objective import Kpi, Objective, RiskTier
from tailorbird.domain.plan import Estimate, Machine, Plan, PlannedComparison, Power, Reason, RungPlan
from tailorbird.domain.release import Approval, Release, ReleaseState
from tailorbird.reporting.documents import Explanation


def objective(kpi: str = "accuracy") -> Objective:
    return an_objective(kpis=(Kpi(metric=kpi, target=0.9),))


def finding(name: str = "recall[refund]") -> Finding:
    measured = {"bound": 0.9, "value": 0.96, "low": 0.93551, "high": 0.97949, "n": 400}
    return Finding(name=name, kind="kpi", verdict=Verdict.PASS, reason=f"{name} is what it is", **measured)


def gate(*findings: Finding, verdict: Verdict = Verdict.PASS) -> GateResult:
    shown = a_climb("lora", 90, Choice.STOP).gate
    return shown.model_copy(update={"verdict": verdict, "findings": findings or (finding(),), "reason": "recall[refund] is what it is"})


def climb(rung: RungKind, accuracy: tuple[float, float, float], verdict: Verdict, choice: Choice) -> Climb:
    value, low, high = accuracy
    usual = a_climb(rung.value, 80, choice, difference() if rung is RungKind.LORA else None)
    metrics = {"accuracy": Metric(name="accuracy", value=value, low=low, high=high, confidence=0.9, n=90, method="wilson")}
    trained = {RungKind.LORA: 4_884_480, RungKind.FLOOR: 20_000}.get(rung, 0)
    long = rung is RungKind.LORA
    took = {"seconds": 130.2, "money": 0.0036, "process_memory_gb": 4.12} if long else {"seconds": 4.26, "money": 0.0001}
    return usual.model_copy(
        update={"evidence": usual.evidence.model_copy(update={"metrics": metrics}), "gate": gate(verdict=verdict)}
        | {"trained_parameters": trained, "peak_memory_gb": 1.52 if long else 0.0, "process_memory_gb": 2.5}
        | took
    )


def difference() -> Comparison:
    return Comparison(
        upper=name_of("lora"), lower=name_of("prompt"), metric="accuracy", n=90, difference=0.07, low=-0.012, high=0.15, confidence=0.9,
        wins=10, losses=3, p_value=0.09, margin=0.02, standing=Standing.NOT_PROVEN, items_needed=40,
    )  # fmt: skip


def ladder() -> Ladder:
    lora = climb(RungKind.LORA, (0.95, 0.9, 0.98), Verdict.PASS, Choice.STOP)
    return Ladder(
        floor=climb(RungKind.FLOOR, (0.8, 0.72, 0.86), Verdict.FAIL, Choice.CLIMB),
        climbs=(climb(RungKind.PROMPT, (0.88, 0.81, 0.93), Verdict.INCONCLUSIVE, Choice.CLIMB), lora),
        refused=(Refusal(rung=RungKind.FULL, variant="weights", reason="the rung below passes"),),
        chosen=lora.candidate,
        reason="lora r16 is the cheapest rung that passes on dev",
        compared_on="accuracy",
    )


def plan() -> Plan:
    why = Reason(rule="rank", text="rank 16 holds [the labels]", source="DESIGN §5")
    rung = RungPlan(
        rung=RungKind.LORA,
        variant="r16",
        training=None,
        trained_parameters=4_884_480,
        time=Estimate(low=120, likely=180, high=270, unit="s"),
        memory=Estimate(low=1.24, likely=1.5, high=2.06, unit="GiB"),
        money=Estimate(low=0.0033, likely=0.005, high=0.0075, unit="EUR"),
        reasons=(why,),
    )
    return Plan(
        objective=name_of("objective"),
        snapshot=name_of("snapshot"),
        base_model=name_of("base"),
        machine=Machine(cores=2, memory_gb=23.4, fp32_gflops=61.2, bf16_gflops=180.7, fast_bf16=True),
        rungs=(rung,),
        left_out=(Refusal(rung=RungKind.FULL, reason="does not fit"),),
        dev_power=(Power(kpi="accuracy", target=0.9, n=90, must_observe=0.9556, provable=True),),
        test_power=(Power(kpi="recall[rare]", target=0.9, n=4, must_observe=1.0, provable=False),),
        comparison=PlannedComparison(metric="accuracy", margin=0.02, unit="", dev_smallest=0.1, test_smallest=0.1, reason=why),
        memory_limit_gb=0.0,
        risk=RiskTier.LIMITED,
    )


def release(*approvals: Approval) -> Release:
    return a_release(ReleaseState.PRODUCTION).model_copy(update={"approvals": approvals})


def approval(reason: str = "read the card") -> Approval:
    return a_decision(a_release(), person("ben", Role.APPROVER)).model_copy(update={"reason": reason})


def request(**changes: object) -> RequestRow:
    shown = {"id": "req1", "alias": "acme/desk", "prompt_tokens": 55, "latency_ms": 41.6, "at": NOW}
    return sample.request("acme").model_copy(update=shown | changes)


def explained() -> Explanation:
    event = Event(kind="release.promoted", tenant="acme", actor="olga", subject=release().digest, at=NOW)
    found: Evidence = ladder().climbs[1].evidence
    return Explanation(
        request=request(),
        release=release(approval()),
        objective=objective(),
        gate=gate(),
        evidence=found,
        manifest=a_manifest(),
        plan=plan(),
        ladder=ladder(),
        events=(LogEntry(index=17, leaf_hash="00" * 32, event=event),),
    )
