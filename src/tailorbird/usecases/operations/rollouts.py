"""Operations on rollouts: a release let in by degrees, what its counts say, what people decide; and the drill before it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.rollout import Rollout, RolloutPlan
from tailorbird.domain.value import Value
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Operation
from tailorbird.usecases.operations.releases import DigestStart, OneRelease, Reason
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.rollouts import drill, rollouts

RolloutId = Annotated[str, Field(pattern=r"^[0-9a-f]{1,12}$", description="Id of the rollout, or how it begins.")]


class NewRollout(Value):
    """A staged release to let in, and the way to production."""

    digest: DigestStart
    plan: RolloutPlan = RolloutPlan()


class Newest(Value):
    """The newest ``limit``."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class OneRollout(Value):
    """Names a rollout."""

    rollout: RolloutId


class RolloutDecision(Value):
    """What somebody decides of a rollout, and why."""

    rollout: RolloutId
    decision: rollouts.Decision
    reason: Reason = ""


class RolloutList(Value):
    """The tenant's rollouts, newest first."""

    rollouts: tuple[Rollout, ...]


def _start(deps: Dependencies, actor: Actor, asked: NewRollout) -> Rollout:
    return rollouts.start_rollout(deps, actor, asked.digest, asked.plan, promotion.demand_approved)


def _list(deps: Dependencies, actor: Actor, asked: Newest) -> RolloutList:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return RolloutList(rollouts=work.rollouts.latest(asked.limit))


def _show(deps: Dependencies, actor: Actor, asked: OneRollout) -> rollouts.RolloutReport:
    return rollouts.report_rollout(deps, actor.tenant, asked.rollout)


def _decide(deps: Dependencies, actor: Actor, asked: RolloutDecision) -> Rollout:
    return rollouts.decide_rollout(deps, actor, asked.rollout, asked.decision, asked.reason)


def _drill(deps: Dependencies, actor: Actor, asked: OneRelease) -> drill.Drill:
    return drill.drill(deps, actor, asked.digest)


START = Operation(
    "rollout.start", "POST", "/api/rollouts", Action.ROLL_OUT, NewRollout, Rollout, _start, "Let a staged release in by degrees."
)
LIST = Operation("rollout.list", "GET", "/api/rollouts", Action.SHOW_RELEASE, Newest, RolloutList, _list, "List rollouts, newest first.")
SHOW = Operation(
    "rollout.show",
    "GET",
    "/api/rollouts/{rollout}",
    Action.SHOW_RELEASE,
    OneRollout,
    rollouts.RolloutReport,
    _show,
    "Show a rollout with what its counts say, by segment too.",
)
DECIDE = Operation(
    "rollout.decide",
    "POST",
    "/api/rollouts/{rollout}/decisions",
    Action.DECIDE_ROLLOUT,
    RolloutDecision,
    Rollout,
    _decide,
    "Hold, resume, advance, promote (with its live KPIs proven, or without) or take back a rollout.",
)
DRILL = Operation(
    "release.drill",
    "POST",
    "/api/releases/{digest}/drill",
    Action.DRILL,
    OneRelease,
    drill.Drill,
    _drill,
    "Rehearse promotion and rollback in staging, and record the seconds.",
)
