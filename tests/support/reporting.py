"""Literals to be shown: a ladder of three rungs and a floor, a gate, a plan, a release, a request."""

from __future__ import annotations

from datetime import UTC, datetime

from tailorbird.domain.dataset import SnapshotManifest, Split, SplitCounts
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.event import Event, LogEntry
from tailorbird.domain.evidence import Comparison, Evidence, Finding, GateResult, Metric, Standing, Verdict
from tailorbird.domain.identity import Role, Signature
from tailorbird.domain.ladder import Choice, Climb, Ladder, Refusal, RungKind
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
from tailorbird.domain.plan import Estimate, Machine, Plan, PlannedComparison, Power, Reason, RungPlan
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.release import Approval, Dossier, Release, ReleaseContent, ReleaseState
from tailorbird.reporting.documents import Explanation

AT = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def name_of(number: int) -> str:
    return "sha256:" + f"{number:02x}" * 32


def objective(kpi: str = "accuracy") -> Objective:
    return Objective(
        name="desk",
        tenant="acme",
        business=Business(goal="Send each message on.", owner="support", risk=RiskTier.LIMITED),
        task=Task(kind=TaskKind.CLASSIFY, instruction="Classify."),
        data=(DataSource(path="rows.csv", source=DataOrigin(origin="written here", license="Apache-2.0")),),
        kpis=(Kpi(metric=kpi, target=0.9),),
    )


def finding(name: str = "recall[refund]", verdict: Verdict = Verdict.PASS, measured: bool = True) -> Finding:
    value, low, high = (0.96, 0.93551, 0.97949) if measured else (None, None, None)
    return Finding(
        name=name,
        kind="kpi",
        bound=0.9,
        value=value,
        low=low,
        high=high,
        n=400 if measured else 0,
        verdict=verdict,
        reason=f"{name} is what it is",
    )


def gate(*findings: Finding, verdict: Verdict = Verdict.PASS) -> GateResult:
    return GateResult(
        verdict=verdict,
        split=Split.TEST,
        confidence=0.9,
        adjusted_confidence=0.939,
        look=1,
        findings=findings or (finding(),),
        reason="recall[refund] is what it is",
    )


def evidence(candidate: int, value: float, low: float, high: float) -> Evidence:
    accuracy = Metric(name="accuracy", value=value, low=low, high=high, confidence=0.9, n=90, method="wilson")
    metrics = {"accuracy": accuracy}
    return Evidence(candidate=name_of(candidate), split=Split.DEV, n=90, metrics=metrics, items=name_of(99), seconds=1.0, engine="twin 1")


def climb(rung: RungKind, number: int, accuracy: tuple[float, float, float], verdict: Verdict, choice: Choice) -> Climb:
    trained = {RungKind.LORA: 4_884_480, RungKind.FLOOR: 20_000}.get(rung, 0)
    variant = {RungKind.FLOOR: "tf-idf", RungKind.PROMPT: "few-shot", RungKind.LORA: "r16"}[rung]
    return Climb(
        rung=rung,
        candidate=name_of(number),
        variant=variant,
        trained_parameters=trained,
        evidence=evidence(number, *accuracy),
        gate=gate(verdict=verdict),
        against_below=difference() if rung is RungKind.LORA else None,
        choice=choice,
        reason=f"{rung.value} did that",
        seconds=130.2 if rung is RungKind.LORA else 4.26,
        peak_memory_gb=1.52 if rung is RungKind.LORA else 0.0,
        process_memory_gb=4.12 if rung is RungKind.LORA else 2.5,
        money=0.0036 if rung is RungKind.LORA else 0.0001,
    )


def difference() -> Comparison:
    return Comparison(
        upper=name_of(3),
        lower=name_of(2),
        metric="accuracy",
        n=90,
        difference=0.07,
        low=-0.012,
        high=0.15,
        confidence=0.9,
        wins=10,
        losses=3,
        p_value=0.09,
        margin=0.02,
        standing=Standing.NOT_PROVEN,
        items_needed=40,
    )


def ladder() -> Ladder:
    return Ladder(
        floor=climb(RungKind.FLOOR, 1, (0.8, 0.72, 0.86), Verdict.FAIL, Choice.CLIMB),
        climbs=(
            climb(RungKind.PROMPT, 2, (0.88, 0.81, 0.93), Verdict.INCONCLUSIVE, Choice.CLIMB),
            climb(RungKind.LORA, 3, (0.95, 0.9, 0.98), Verdict.PASS, Choice.STOP),
        ),
        refused=(Refusal(rung=RungKind.FULL, variant="weights", reason="the rung below passes"),),
        chosen=name_of(3),
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
        objective=name_of(10),
        snapshot=name_of(11),
        base_model=name_of(12),
        machine=Machine(cores=2, memory_gb=23.4, fp32_gflops=61.2, bf16_gflops=180.7, fast_bf16=True),
        rungs=(rung,),
        left_out=(Refusal(rung=RungKind.FULL, reason="does not fit"),),
        dev_power=(Power(kpi="accuracy", target=0.9, n=90, must_observe=0.9556, provable=True),),
        test_power=(Power(kpi="recall[rare]", target=0.9, n=4, must_observe=1.0, provable=False),),
        comparison=PlannedComparison(metric="accuracy", margin=0.02, unit="", dev_smallest=0.1, test_smallest=0.1, reason=why),
        memory_limit_gb=0.0,
        risk=RiskTier.LIMITED,
    )


def manifest() -> SnapshotManifest:
    return SnapshotManifest(
        tenant="acme",
        objective="desk",
        rows=name_of(20),
        quarantine=name_of(21),
        read=1300,
        duplicates=7,
        quarantined=3,
        counts=SplitCounts(train=1200, dev=90, test=400),
        label_counts={},
        near_duplicate_groups=0,
        files={"rows.csv": name_of(22)},
        salt="00",
        text_length_p95=100,
        text_length_max=200,
        curation="sha256:" + "0" * 64,
        root="00",
        seal="sha256:" + "0" * 64,
    )


def signature(who: str, purpose: str) -> Signature:
    return Signature(identity=who, public_key="k", purpose=purpose, digest=name_of(30), signature="s", at=AT)


def release(*approvals: Approval) -> Release:
    names = ("objective", "candidate", "base_model", "tokenizer", "chat_template", "snapshot")
    digests = {field: name_of(40 + place) for place, field in enumerate(names)}
    shown = ("plan", "ladder", "dev_evidence", "test_evidence", "gate", "card")
    dossier = Dossier.model_validate(
        {"release": name_of(30), "gate_verdict": "pass", "created_at": AT}
        | {field: name_of(46 + place) for place, field in enumerate(shown)}
    )
    content = ReleaseContent.model_validate(
        {
            "tenant": "acme",
            "objective_name": "desk",
            "run": "run1",
            "risk": "limited",
            "task": "classify",
            "rung": "lora",
            "base_model_name": "smollm2-135m",
            "adapter": name_of(60),
            "weights": None,
            "prompt": PromptSpec(instruction="Classify."),
            "author": "ada",
            **digests,
        }
    )
    return Release(
        digest=name_of(30),
        content=content,
        dossier=dossier,
        state=ReleaseState.PRODUCTION,
        signature=signature("ada", "release"),
        approvals=approvals,
    )


def approval(who: str = "ben", decision: str = "approve", reason: str = "read the card") -> Approval:
    return Approval.model_validate(
        {
            "release": name_of(30),
            "dossier": name_of(31),
            "identity": who,
            "role": Role.APPROVER,
            "decision": decision,
            "reason": reason,
            "signature": signature(who, decision),
        }
    )


def request(**changes: object) -> RequestRow:
    row = RequestRow(
        id="req1",
        tenant="acme",
        key="key1",
        alias="acme/desk",
        release=name_of(30),
        arm="only",
        route="chat",
        status=200,
        outcome="ok",
        error=None,
        prediction="refund",
        prompt_tokens=55,
        completion_tokens=2,
        latency_ms=41.6,
        at=AT,
    )
    return row.model_copy(update=changes)


def explained() -> Explanation:
    event = Event(kind="release.promoted", tenant="acme", actor="olga", subject=name_of(30), at=AT)
    return Explanation(
        request=request(),
        release=release(approval()),
        objective=objective(),
        gate=gate(),
        evidence=evidence(3, 0.95, 0.9, 0.98),
        manifest=manifest(),
        plan=plan(),
        ladder=ladder(),
        events=(LogEntry(index=17, leaf_hash="00" * 32, event=event),),
    )
