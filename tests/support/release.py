"""Literals of which release tests are made: an objective, evidence with given counts, a release, people."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest, Split, SplitCounts
from tailorbird.domain.evidence import Comparison, Evidence, GateResult, Metric, Standing, Verdict
from tailorbird.domain.identity import Identity, Role, Signature
from tailorbird.domain.ladder import Candidate, Choice, Climb, Ladder, Refusal, RungKind
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
from tailorbird.domain.prompt import Demonstration, PromptSpec
from tailorbird.domain.release import Approval, Dossier, Release, ReleaseContent, ReleaseState, Statement
from tailorbird.domain.run import Run
from tailorbird.release import GateInputs, ReleaseParts, apply_gate, assemble, release_digest
from tailorbird.stats.intervals import wilson

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def name_of(what: str) -> str:
    """A digest that stands for ``what``."""
    return "sha256:" + hashlib.sha256(what.encode()).hexdigest()


def objective(risk: RiskTier = RiskTier.LIMITED, **changes: object) -> Objective:
    plain = Objective(
        name="desk",
        tenant="acme",
        business=Business(goal="Send each message | to the right team.", owner="support", risk=risk),
        task=Task(kind=TaskKind.CLASSIFY, instruction="Classify the message."),
        data=(DataSource(path="data/rows.csv", source=DataOrigin(origin="written here", license="Apache-2.0")),),
        kpis=(Kpi(metric="accuracy", target=0.9),),
    )
    return plain.model_copy(update=changes)


def share(name: str, hits: int, n: int, confidence: float = 0.9) -> Metric:
    low, high = wilson(hits, n, confidence)
    return Metric(name=name, value=hits / n, low=low, high=high, confidence=confidence, n=n, method="wilson", hits=hits)


def average(name: str, value: float, low: float, high: float, n: int = 400) -> Metric:
    return Metric(name=name, value=value, low=low, high=high, confidence=0.9, n=n, method="bootstrap-bca")


def evidence(*metrics: Metric, split: Split = Split.TEST, candidate: str = "lora") -> Evidence:
    return Evidence(
        candidate=digest_of(made(candidate)),
        split=split,
        n=400,
        metrics={metric.name: metric for metric in metrics},
        items=name_of("items"),
        seconds=2.0,
        engine="twin",
    )


def gate(*metrics: Metric, look: int = 1, **changes: object) -> GateResult:
    return apply_gate(GateInputs(objective=objective(**changes), evidence=evidence(*metrics), look=look))


def made(kind: str = "lora") -> Candidate:
    """A candidate of a rung."""
    shown = (Demonstration(row_id=name_of("row"), text="SECRET ROW TEXT", target="refund"),)
    prompt = PromptSpec(instruction="Classify the message.", labels=("login", "refund"), demonstrations=shown if kind == "prompt" else ())
    return Candidate(
        rung=RungKind(kind),
        variant={"prompt": "few-shot", "lora": "r16", "full": "all", "floor": "tf-idf"}[kind],
        base_model=base().digest,
        prompt=prompt,
        adapter=name_of("adapter") if kind == "lora" else None,
        weights=name_of("weights") if kind == "full" else None,
        trained_parameters={"lora": 4_884_480, "full": 134_515_008}.get(kind, 0),
        seed=20,
    )


def base() -> BaseModelRef:
    return BaseModelRef(
        name="smollm2-135m",
        digest=name_of("base"),
        tokenizer_digest=name_of("tokenizer"),
        chat_template_digest=name_of("template"),
        license="Apache-2.0",
        parameters=134_515_008,
        hidden=576,
        layers=30,
        vocabulary=49152,
        context=8192,
        intermediate=1536,
        linear_shapes={"q_proj": (576, 576)},
    )


def manifest() -> SnapshotManifest:
    return SnapshotManifest(
        tenant="acme",
        objective="desk",
        rows=name_of("rows"),
        quarantine=name_of("quarantine"),
        read=1300,
        duplicates=7,
        quarantined=3,
        counts=SplitCounts(train=800, dev=90, test=400),
        label_counts={"refund": SplitCounts(train=500, dev=50, test=250), "login": SplitCounts(train=300, dev=40, test=150)},
        near_duplicate_groups=11,
        files={"data/rows.csv": name_of("file")},
        salt="00",
        text_length_p95=120,
        text_length_max=300,
        curation="sha256:" + "0" * 64,
        root="00",
        seal="sha256:" + "0" * 64,
    )


def climb(kind: str, hits: int, choice: Choice, against: Comparison | None = None) -> Climb:
    found = evidence(share("accuracy", hits, 90), split=Split.DEV, candidate=kind)
    return Climb(
        rung=RungKind(kind),
        candidate=digest_of(made(kind)),
        variant=made(kind).variant,
        trained_parameters=made(kind).trained_parameters,
        evidence=found,
        gate=apply_gate(GateInputs(objective=objective(), evidence=found, look=1)),
        against_below=against,
        choice=choice,
        reason="because",
        seconds=80.0,
        peak_memory_gb=1.5,
        money=0.002,
    )


def ladder() -> Ladder:
    against = Comparison(
        upper=digest_of(made("lora")),
        lower=digest_of(made("prompt")),
        metric="accuracy",
        n=90,
        difference=0.5,
        low=0.4,
        high=0.6,
        confidence=0.9,
        wins=46,
        losses=1,
        p_value=1e-9,
        margin=0.02,
        standing=Standing.BETTER,
    )
    return Ladder(
        floor=climb("floor", 70, Choice.CLIMB),
        climbs=(climb("prompt", 41, Choice.CLIMB), climb("lora", 90, Choice.STOP, against)),
        refused=(Refusal(rung=RungKind.FULL, reason="the rung below passes"),),
        chosen=digest_of(made("lora")),
        reason="lora r16 is the cheapest rung that passes on dev",
        compared_on="accuracy",
    )


def parts(kind: str = "lora", *, author: str = "author", **changes: object) -> ReleaseParts:
    goal = objective(**changes)
    run = Run(
        id="run1",
        tenant="acme",
        objective_name="desk",
        objective=digest_of(goal),
        fingerprint=name_of("fingerprint"),
        folder=".",
        created_by=author,
        created_at=NOW,
        source=name_of("source"),
    )
    return ReleaseParts(
        run=run,
        objective=goal,
        base=base(),
        candidate=made(kind),
        snapshot=digest_of(manifest()),
    )


def dossier(of: ReleaseContent) -> Dossier:
    return Dossier(
        release=release_digest(of),
        plan=name_of("plan"),
        ladder=digest_of(ladder()),
        dev_evidence=name_of("dev"),
        test_evidence=name_of("test"),
        gate=name_of("gate"),
        gate_verdict=Verdict.PASS,
        card=name_of("card"),
        created_at=NOW,
    )


def content(kind: str = "lora", **changes: object) -> ReleaseContent:
    return assemble(parts(kind, **changes))


def signature(who: Identity, purpose: str, digest: str) -> Signature:
    """A signature as the twin verifier of these tests knows it: the name of key, purpose and digest."""
    proof = name_of(f"{who.public_key} {purpose} {digest}")
    return Signature(identity=who.name, public_key=who.public_key, purpose=purpose, digest=digest, signature=proof, at=NOW)


def release(state: ReleaseState = ReleaseState.GATED, kind: str = "lora", *, author: Identity | None = None, **changes: object) -> Release:
    who = author or person("author", Role.AUTHOR)
    bundle = content(kind, author=who.name, **changes)
    shown = dossier(bundle)
    signed = signature(who, "release", digest_of(shown))
    return Release(digest=release_digest(bundle), content=bundle, dossier=shown, state=state, signature=signed)


def person(name: str, *roles: Role, tenant: str = "acme", key: str | None = None, disabled: bool = False) -> Identity:
    return Identity(
        tenant=tenant,
        name=name,
        roles=frozenset(roles),
        public_key=key or f"key of {name}",
        created_at=NOW,
        disabled_at=NOW if disabled else None,
    )


def decision(of: Release, who: Identity, role: Role = Role.APPROVER, says: str = "approve") -> Approval:
    stated = Statement.model_validate(
        {
            "release": of.digest,
            "dossier": digest_of(of.dossier),
            "identity": who.name,
            "role": role,
            "decision": says,
            "reason": "",
        }
    )
    return Approval(**dict(stated), signature=signature(who, says, digest_of(stated)))
