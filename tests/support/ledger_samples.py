"""Values to put into a ledger: plain, valid, and different where a number says so."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.curation import Decision, FixAction
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.deployment import Alias, AliasTarget, RequestRow
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.event import Checkpoint, Event
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.feedback import Feedback, FeedbackKind, KeptWords, Review, ReviewReason, Severity, Signal
from tailorbird.domain.identity import ApiKey, Identity, Role, Session, Signature, Usage, WrappedKey
from tailorbird.domain.label_review import Judgement, Mark
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import RiskTier, TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.release import Approval, Dossier, Release, ReleaseContent, ReleaseState
from tailorbird.domain.rollout import Rollout, RolloutPlan
from tailorbird.domain.run import Failure, Run, StepProgress, TrainingProgress
from tailorbird.domain.value import Digest

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def digest(name: object) -> Digest:
    return digest_bytes(str(name).encode())


def counts(n: int) -> SplitCounts:
    return SplitCounts(train=n, dev=1, test=2)


def run(tenant: str, n: int = 1) -> Run:
    return Run(
        id=f"run{n:04d}",
        tenant=tenant,
        objective_name="routing",
        objective=digest("objective"),
        fingerprint=digest(f"run {n}"),
        folder="work",
        created_by="ada",
        created_at=START + timedelta(seconds=n),
        source=digest("source"),
        inputs=digest("inputs"),
    )


def failure(code: str) -> Failure:
    return Failure(code=code, message=f"it failed: {code}", hint="try again")


def progress(n: int = 1) -> StepProgress:
    line = TrainingProgress(
        step=n,
        steps=100,
        loss=1 / n,
        held_out_loss=None,
        learning_rate=1e-4,
        tokens=512 * n,
        tokens_per_second=99.9,
        memory_gb=1.5,
        seconds=0.1 * n,
    )
    return StepProgress(text=f"step {n} of 100", done=n, total=100, training=line)


def signature(identity: str, over: Digest) -> Signature:
    return Signature(identity=identity, public_key="A" * 43 + "=", purpose="release", digest=over, signature="c2ln", at=START)


def release(tenant: str, n: int = 1) -> Release:
    content = ReleaseContent(
        tenant=tenant,
        objective_name="routing",
        objective=digest("objective"),
        run=f"run{n:04d}",
        risk=RiskTier.LIMITED,
        task=TaskKind.CLASSIFY,
        rung=RungKind.LORA,
        candidate=digest(f"candidate {n}"),
        base_model_name="small",
        base_model=digest("base"),
        adapter=digest("adapter"),
        weights=None,
        tokenizer=digest("tokenizer"),
        chat_template=digest("template"),
        prompt=PromptSpec(instruction="Sort.", labels=("a", "b")),
        snapshot=digest("snapshot"),
        author="ada",
    )
    shown = dossier(digest_of(content), n)
    return Release(
        digest=shown.release, content=content, dossier=shown, state=ReleaseState.GATED, signature=signature("ada", digest_of(shown))
    )


def dossier(of: Digest, n: int = 1) -> Dossier:
    return Dossier(
        release=of,
        plan=digest("plan"),
        ladder=digest(f"ladder {n}"),
        dev_evidence=digest("dev"),
        test_evidence=digest("test"),
        gate=digest("gate"),
        gate_verdict=Verdict.PASS,
        card=digest("card"),
        created_at=START + timedelta(seconds=n),
    )


def approval(of: Release, identity: str = "grace") -> Approval:
    statement = {
        "release": of.digest,
        "dossier": digest_of(of.dossier),
        "identity": identity,
        "role": Role.APPROVER,
        "decision": "approve",
        "reason": "it holds",
    }
    return Approval(**statement, signature=signature(identity, digest("statement")))


def alias(tenant: str, version: int = 1, name: str = "routing") -> Alias:
    return Alias(
        tenant=tenant,
        name=name,
        targets=(AliasTarget(release=digest(version), weight=90), AliasTarget(release=digest("candidate"), weight=10)),
        previous=(AliasTarget(release=digest(version - 1)),) if version > 1 else (),
        version=version,
        moved_at=START + timedelta(minutes=version),
        moved_by="olga",
    )


def usage(n: int = 1) -> Usage:
    return Usage(gateway="g", period="month", start=START, requests=n, input_tokens=2, output_tokens=3, money=0.5)


def key_usage(n: int = 1) -> Usage:
    return Usage(key="key-1", gateway="g", period="day", start=START, requests=n, input_tokens=2, output_tokens=3, money=0.5)


def feedback(tenant: str, value: str = "up") -> Feedback:
    return Feedback(tenant=tenant, request="request-1", kind=FeedbackKind.THUMB, source="key-1", value=value, score=1.0, at=START)


def review(tenant: str, request: str = "request-1") -> Review:
    return Review(tenant=tenant, request=request, alias="routing", reason=ReviewReason.SAMPLE, queued_at=START)


def content(tenant: str) -> KeptWords:
    return KeptWords(tenant=tenant, request="request-1", text="where is it", answer="refund", at=START, expires_at=START)


def rollout(tenant: str, name: str = "routing") -> Rollout:
    return Rollout(
        id="0123456789ab",
        tenant=tenant,
        alias=name,
        candidate=digest("new"),
        incumbent=digest("release"),
        risk=RiskTier.LIMITED,
        plan=RolloutPlan(),
        salt="s",
        versions=(1,),
        step_since=START,
        started_by="ada",
        started_at=START,
        changed_at=START,
    )


def wrapped_key(tenant: str, n: int = 1) -> WrappedKey:
    return WrappedKey(tenant=tenant, scope=f"scope-{n}", wrapped=f"wrapped-{n}", fingerprint=f"ab1{n}", at=START)


def request(tenant: str, n: int = 1) -> RequestRow:
    return RequestRow(
        id=f"request-{n}",
        tenant=tenant,
        key="key-1",
        alias="routing",
        release=digest("release"),
        arm="main",
        route="/v1/chat/completions",
        status=200,
        outcome="ok",
        error=None,
        prediction="refund",
        prompt_tokens=20,
        completion_tokens=2,
        latency_ms=12.5,
        at=START + timedelta(seconds=n),
        characters=31,
        sketch="ab12",
        confidence=0.75,
        cost=0.1 + 0.2,
    )


def signal(tenant: str, n: int = 1, objective: str = "routing") -> Signal:
    return Signal(
        tenant=tenant,
        objective=objective,
        release=digest("release"),
        name="drift.text",
        value=1 / n,
        bound=None if n % 3 else 0.5,
        p_value=math.exp(-n),
        n=100 * n,
        severity=Severity.WARNING,
        text=f"the texts of the last {n} hours differ from those of the snapshot",
        at=START,
    )


def decision(n: int = 1, action: FixAction = FixAction.RELABEL) -> Decision:
    return Decision(objective="routing", row=digest(n), action=action, label="refund", by="ada", at=START)


def erasure(tenant: str, n: int = 1) -> Erasure:
    return Erasure(id=f"{n:012x}", tenant=tenant, subject=f"subject:{n}", by="ada", at=START)


def identity(tenant: str, name: str = "ada") -> Identity:
    roles = frozenset({Role.AUTHOR, Role.VIEWER})
    return Identity(tenant=tenant, name=name, roles=roles, public_key="A" * 43 + "=", created_at=START, former_keys=("B" * 43 + "=",))


def session(tenant: str, n: int = 1) -> Session:
    return Session(
        id=f"nonce-{n}",
        tenant=tenant,
        identity="ada",
        secret_sha256="0" * 64,
        created_at=START,
        expires_at=START + timedelta(hours=n),
    )


def api_key(tenant: str, n: int = 1) -> ApiKey:
    return ApiKey(id=f"key-{n}", tenant=tenant, name="robot", secret_sha256="0" * 64, created_at=START + timedelta(seconds=n))


def event(tenant: str, n: int = 1, subject: str = "run-1") -> Event:
    return Event(kind="run.started", tenant=tenant, actor="ada", subject=subject, at=START, data={"n": n, "share": 0.25, "late": None})


def checkpoint(size: int, root: str) -> Checkpoint:
    return Checkpoint(origin="here", size=size, root=root, note=f"here\n{size}\n{root}\n", at=START)


def judgement(release: Release, n: int = 1) -> Judgement:
    return Judgement(release=release.digest, reviewer="rita", number=n, mark=Mark.LEFT, candidate_side="right", at=START)
