"""Release: an immutable, signed bundle of digests, and its states."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.evidence import ScopeRule, Verdict
from tailorbird.domain.identity import Role, Signature
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import RiskTier, TaskKind
from tailorbird.domain.prompt import PromptSpec, Retrieval
from tailorbird.domain.value import Digest, Name, Value, transition


class ReleaseContent(Value):
    """What is released, by digest. The digest of this value's canonical JSON is the release's name, for ever.

    An answer whose probability lies below ``refer_below`` is referred to a person (``text/label_rules.py``), and so is a generated one
    in which ``refer_pattern`` occurs. Without one the field is not written, so that releases made before there was one keep their names.
    So it is with ``scope``: a request that it finds out of scope gets no label, and goes to a person. ``encoder`` is the tree of the
    encoder that an adapter beside the ``floor`` changes; it stands once for all releases that name it.
    """

    tenant: Name
    objective_name: Name
    objective: Digest
    run: str
    risk: RiskTier
    task: TaskKind
    rung: RungKind
    candidate: Digest
    base_model_name: str
    base_model: Digest
    adapter: Digest | None
    weights: Digest | None
    tokenizer: Digest
    chat_template: Digest
    prompt: PromptSpec
    retrieval: Retrieval | None = None
    floor: Digest | None = None
    snapshot: Digest
    author: Name
    refer_below: float | None = None
    refer_pattern: str | None = None
    hosted: HostedModel | None = None
    scope: ScopeRule | None = None
    encoder: Digest | None = None


class Dossier(Value):
    """How a release was shown to be good: plan, ladder, evidence, gate and model card, by digest; ``release`` names what it is about.
    ``review`` names the sheet on which people must judge its answers; it is not written where nobody has to. ``effect`` names the proof of
    what its weights change; releases without weights of their own, or older than such proofs, have none.

    Measured times stand behind these digests, so they differ from one climb to the next even where the release is the same.
    """

    release: Digest
    plan: Digest
    ladder: Digest
    dev_evidence: Digest
    test_evidence: Digest
    gate: Digest
    gate_verdict: Verdict
    card: Digest
    created_at: datetime
    review: Digest | None = None
    effect: Digest | None = None


class ReleaseState(StrEnum):
    """Where a release stands. Only ``PRODUCTION`` and, for a share of the users, ``ROLLING_OUT`` answer an alias; ``REJECTED`` and
    ``RETIRED`` are final.
    """

    DRAFT = "draft"
    GATED = "gated"
    APPROVED = "approved"
    STAGED = "staged"
    ROLLING_OUT = "rolling_out"
    PRODUCTION = "production"
    RETIRED = "retired"
    REJECTED = "rejected"


class ReleaseAction(StrEnum):
    """What can be done to a release."""

    PASS_GATE = "pass_gate"
    APPROVE = "approve"
    REJECT = "reject"
    STAGE = "stage"
    TRY = "try"
    PROMOTE = "promote"
    SUPERSEDE = "supersede"
    WITHDRAW = "withdraw"
    RETIRE = "retire"


_S, _A = ReleaseState, ReleaseAction

#: The whole state machine. What is not here is refused. ``APPROVE`` is applied when the quorum is reached.
TRANSITIONS: dict[tuple[ReleaseState, ReleaseAction], ReleaseState] = {
    (_S.DRAFT, _A.PASS_GATE): _S.GATED,
    (_S.DRAFT, _A.REJECT): _S.REJECTED,
    (_S.GATED, _A.APPROVE): _S.APPROVED,
    (_S.GATED, _A.REJECT): _S.REJECTED,
    (_S.APPROVED, _A.STAGE): _S.STAGED,
    (_S.APPROVED, _A.REJECT): _S.REJECTED,
    (_S.STAGED, _A.PROMOTE): _S.PRODUCTION,
    (_S.STAGED, _A.RETIRE): _S.RETIRED,
    (_S.STAGED, _A.TRY): _S.ROLLING_OUT,
    (_S.ROLLING_OUT, _A.PROMOTE): _S.PRODUCTION,
    (_S.ROLLING_OUT, _A.SUPERSEDE): _S.STAGED,
    (_S.ROLLING_OUT, _A.WITHDRAW): _S.RETIRED,
    (_S.PRODUCTION, _A.SUPERSEDE): _S.STAGED,
    (_S.PRODUCTION, _A.WITHDRAW): _S.RETIRED,
}


def next_state(state: ReleaseState, action: ReleaseAction) -> ReleaseState:
    """The state after ``action``. Raises Conflict when the machine has no such transition."""
    return transition(TRANSITIONS, state, action, "release")


class Statement(Value):
    """What somebody who decides puts their name to: which release, on which dossier, in which role, how, and why."""

    release: Digest
    dossier: Digest
    identity: Name
    role: Role
    decision: Literal["approve", "reject"]
    reason: Annotated[str, Field(max_length=2000)]


class Approval(Statement):
    """A statement with its signature, which is over the digest of the statement and for the purpose ``decision``. The signature's time is
    that of the record, which took it."""

    signature: Signature

    def statement(self) -> Statement:
        """What was signed."""
        return Statement(**{name: getattr(self, name) for name in Statement.model_fields})


class ApprovalRule(Value):
    """Who must approve: ``count`` different people, each holding one of ``roles``; ``distinct_roles`` asks for that
    many different roles. ``data_authors`` decide on nothing; with ``no_data_author`` nobody does who holds that role."""

    roles: tuple[Role, ...]
    count: int
    distinct_roles: int = 1
    data_authors: frozenset[Name] = frozenset()
    no_data_author: bool = False


class Release(Value):
    """A release with what has been decided about it. ``digest`` is that of ``content``; ``signature`` is over the digest of ``dossier``,
    which names the release, by its author or by the worker that finished the author's run."""

    digest: Digest
    content: ReleaseContent
    dossier: Dossier
    state: ReleaseState
    signature: Signature
    approvals: tuple[Approval, ...] = ()


class Look(Value):
    """That the sealed test of ``snapshot`` was opened for ``candidate``, as the objective's look ``number`` (from 1). ``question`` is the
    digest of what was asked; empty where nothing told it."""

    objective_name: Name
    snapshot: str
    candidate: str
    question: str
    number: int
