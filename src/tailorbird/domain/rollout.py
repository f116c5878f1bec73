"""Progressive rollout: plan, guards, states, and tallies of its traffic."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tailorbird.domain.objective import LiveKpi, RiskTier
from tailorbird.domain.value import Digest, Name, Value, transition


class RolloutState(StrEnum):
    """Where a rollout stands. ``ROLLED_BACK`` and ``PROMOTED`` are final; in the others traffic goes on as it is split and guards watch."""

    RUNNING = "running"
    HELD = "held"
    INCONCLUSIVE = "inconclusive"
    ROLLED_BACK = "rolled_back"
    PROMOTED = "promoted"


#: States in which a rollout goes on.
OPEN = frozenset({RolloutState.RUNNING, RolloutState.HELD, RolloutState.INCONCLUSIVE})

#: Outcomes of requests that ended before their callers gave up: what two releases made of one can be compared.
ENDED = ("ok", "error", "refused")

#: A request whose time or price was not measured has these at least, so that there is a logarithm.
LEAST_MS, LEAST_MONEY = 0.01, 1e-9


class RolloutAction(StrEnum):
    """What can be done to a rollout."""

    ADVANCE = "advance"
    HOLD = "hold"
    DOUBT = "doubt"
    RESUME = "resume"
    ROLL_BACK = "roll_back"
    PROMOTE = "promote"


_S, _A = RolloutState, RolloutAction

#: The whole state machine. What is not here is refused.
TRANSITIONS: dict[tuple[RolloutState, RolloutAction], RolloutState] = {
    (_S.RUNNING, _A.ADVANCE): _S.RUNNING,
    (_S.RUNNING, _A.HOLD): _S.HELD,
    (_S.RUNNING, _A.DOUBT): _S.INCONCLUSIVE,
    (_S.HELD, _A.RESUME): _S.RUNNING,
    (_S.INCONCLUSIVE, _A.RESUME): _S.RUNNING,
    **{(state, _A.ROLL_BACK): _S.ROLLED_BACK for state in (_S.RUNNING, _S.HELD, _S.INCONCLUSIVE)},
    **{(state, _A.PROMOTE): _S.PROMOTED for state in (_S.RUNNING, _S.HELD, _S.INCONCLUSIVE)},
}


def next_rollout_state(state: RolloutState, action: RolloutAction) -> RolloutState:
    """The state after ``action``. Raises Conflict when the machine has no such transition."""
    return transition(TRANSITIONS, state, action, "rollout")


class GuardName(StrEnum):
    """What is guarded. Of errors, refusals, malformed answers, latency and cost less is better; of feedback more."""

    ERRORS = "errors"
    REFUSALS = "refusals"
    FORMAT = "format"
    LATENCY = "latency"
    COST = "cost"
    FEEDBACK = "feedback"


class Guard(Value):
    """A bound on a release in traffic, against the release it is to replace.

    ``margin`` is how much worse it may be: a share of the units for errors, refusals and format; a factor less one for latency and cost
    (0.25: a quarter more); on the scale from 0 to 1 for feedback.
    """

    name: GuardName
    margin: Annotated[float, Field(ge=0, le=10)]


#: Guards unless the plan says otherwise.
USUAL_GUARDS = (
    Guard(name=GuardName.ERRORS, margin=0.01),
    Guard(name=GuardName.REFUSALS, margin=0.02),
    Guard(name=GuardName.FORMAT, margin=0.02),
    Guard(name=GuardName.LATENCY, margin=0.25),
    Guard(name=GuardName.COST, margin=0.25),
    Guard(name=GuardName.FEEDBACK, margin=0.05),
)


class RolloutStep(Value):
    """A part of the way. A ``shadow`` step mirrors requests and returns none of the answers; a ``live`` step gives the release
    ``share`` of the users. It has passed after ``requests`` answered by the release and ``minutes``, with no guard breached."""

    kind: Literal["shadow", "live"] = "live"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    requests: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    minutes: Annotated[float, Field(ge=0, le=60 * 24 * 31)] = 10.0


#: Steps unless the plan says otherwise.
USUAL_STEPS = (
    RolloutStep(kind="shadow", requests=100, minutes=5),
    RolloutStep(share=0.05),
    RolloutStep(share=0.25, requests=300),
    RolloutStep(share=0.5, requests=500),
)


class RolloutPlan(Value):
    """The way to production. ``alpha`` is the chance that any guard ever breaches by accident; ``then`` says what follows the last step. A
    shadow step is held where a smaller share of the requests than ``mirrored`` could be mirrored; a step that takes longer than
    ``patience_hours`` is inconclusive, which holds the rollout until a person decides."""

    steps: Annotated[tuple[RolloutStep, ...], Field(min_length=1, max_length=20)] = USUAL_STEPS
    guards: Annotated[tuple[Guard, ...], Field(min_length=1, max_length=6)] = USUAL_GUARDS
    mirrored: Annotated[float, Field(ge=0, le=1)] = 0.5
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    then: Literal["promote", "hold"] = "promote"
    patience_hours: Annotated[float, Field(gt=0, le=24 * 90)] = 72.0

    @model_validator(mode="after")
    def _grows(self) -> RolloutPlan:
        shares = [step.share for step in self.steps if step.kind == "live"]
        if not shares or shares != sorted(shares):
            raise ValueError("there must be a live step, and the shares of live steps must not fall")
        if any(step.kind == "shadow" for step in self.steps[len(self.steps) - len(shares) :]):
            raise ValueError("shadow steps come before live steps")
        if len({guard.name for guard in self.guards}) < len(self.guards):
            raise ValueError("each guard stands once")
        return self


class Passage(Value):
    """One transition: when, by whom (``guards`` where nobody decided), what, at which step, and why."""

    at: datetime
    by: Name
    action: RolloutAction
    step: int
    reason: str


class Rollout(Value):
    """One release on its way. ``versions`` are the alias's versions at which each step so far began; ``step`` is the present one (from 0).

    ``finished`` says that every step has passed. ``revision`` grows by one at each change. ``live_kpis`` are the release's, to be proven
    before it answers alone. What came under versions before ``counted_from`` counts no more: users had not been divided as was asked, and
    somebody let it go on (None: everything counts).
    """

    id: str
    tenant: Name
    alias: Name
    candidate: Digest
    incumbent: Digest
    risk: RiskTier
    plan: RolloutPlan
    salt: str
    state: RolloutState = RolloutState.RUNNING
    step: int = 0
    versions: tuple[int, ...]
    step_since: datetime
    finished: bool = False
    started_by: Name
    started_at: datetime
    changed_at: datetime
    revision: int = 1
    history: tuple[Passage, ...] = ()
    live_kpis: tuple[LiveKpi, ...] = ()
    counted_from: int | None = None

    @property
    def is_open(self) -> bool:
        """True until it has ended."""
        return self.state in OPEN

    @property
    def first_version(self) -> int:
        """The alias's first version that it counts."""
        return self.counted_from or self.versions[0]

    @property
    def last_version(self) -> int | None:
        """The alias's last version that it counts; None while it is open. Behind it one release answers everybody."""
        return None if self.is_open else max(self.versions[-1], self.first_version)

    @property
    def present(self) -> RolloutStep:
        """The step it is at."""
        return self.plan.steps[self.step]

    def after(self, action: RolloutAction, by: str, at: datetime, reason: str, **changes: Any) -> Rollout:
        """The rollout after a legal transition, with ``changes``. Raises Conflict for an illegal one."""
        state = next_rollout_state(self.state, action)
        passage = Passage(at=at, by=by, action=action, step=self.step, reason=reason)
        moved = {"state": state, "changed_at": at, "revision": self.revision + 1, "history": (*self.history, passage)}
        return Rollout.model_validate(self.model_dump() | moved | changes)


class Sums(Value):
    """Count, sum and sum of squares of one observation a unit."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0


class ArmTally(Value):
    """What one release did under one version of an alias, by units (users, sessions; requests where nobody was named).

    ``errors``, ``refusals`` and ``malformed`` count units with at least one; ``latency`` and ``cost`` are of the logarithms (of ms until
    the answer, or until the caller gave up; of money) and ``feedback`` of scores from 0 to 1, each averaged within a unit first.
    ``ended`` counts requests that the caller did not give up.

    With ``shadow``, only requests count that both releases were asked, for either of them: ``errors_alone``, ``refusals_alone`` and
    ``malformed_alone`` are units in whose first pair with one event that was this release's; ``agreed`` counts mirrored answers that were
    the one given, of ``compared``.
    """

    version: int
    release: Digest
    shadow: bool
    units: int
    requests: int
    errors: int = 0
    refusals: int = 0
    malformed: int = 0
    ended: int = 0
    errors_alone: int = 0
    refusals_alone: int = 0
    malformed_alone: int = 0
    compared: int = 0
    agreed: int = 0
    latency: Sums = Sums()
    cost: Sums = Sums()
    feedback: Sums = Sums()


class Votes(Value):
    """What users said of a release's answers in one way. ``said`` counts answers; ``units`` users (answers, where nobody was named), of
    each of whom the mean counts once; ``total`` is the sum of these means."""

    metric: Literal["csat", "thumbs", "outcome"]
    said: int
    units: int
    total: float


class LiveFinding(Value):
    """A live KPI at this moment: the share so far, with an interval that holds at every look. ``needed`` estimates how many more users
    prove it at that share; None where none would."""

    metric: Literal["csat", "thumbs", "outcome"]
    target: float
    value: float | None
    low: float | None
    high: float | None
    units: int
    said: int
    standing: Literal["proven", "missed", "open"]
    needed: int | None
    text: str


class GuardFinding(Value):
    """A guard at this moment. ``evidence`` reaches ``needed`` when it is breached; for means it is how far the sequence lies beyond the
    margin.
    """

    guard: GuardName
    margin: float
    incumbent: float | None
    candidate: float | None
    low: float | None = None
    high: float | None = None
    evidence: float
    needed: float
    breached: bool
    text: str


class GuardReport(Value):
    """What the counts say now, and what follows from it. ``mirrored`` is the share of the requests of shadow steps that both releases were
    asked (None: no such request yet); ``too_few_mirrored``: at the present step it is too small. ``every_step_passed``: the last one
    has passed, too."""

    action: RolloutAction | None
    reason: str
    requests: int
    incumbent_requests: int
    sample_ratio_broken: bool
    every_step_passed: bool = False
    too_few_mirrored: bool = False
    mirrored: float | None = None
    guards: tuple[GuardFinding, ...]
    agreement: float | None = None
    live: tuple[LiveFinding, ...] = ()
