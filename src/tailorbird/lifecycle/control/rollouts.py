"""Operations on rollouts: a release let in by degrees, what its counts say, what people decide; and the drill before it.

In: what a caller asks. Out: rollouts, reports, drills. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.rollout import Rollout, RolloutPlan
from tailorbird.domain.value import Value
from tailorbird.lifecycle.control.operation import Operation
from tailorbird.lifecycle.control.releases import DigestStart, OneRelease, Reason
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.lifecycle.releasing import drill, promote, rollouts

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


class Decided(Value):
    """What somebody decides of a rollout, and why."""

    rollout: RolloutId
    decision: rollouts.Decision
    reason: Reason = ""


class Rollouts(Value):
    """The tenant's rollouts, newest first."""

    rollouts: tuple[Rollout, ...]


def _start(parts: Parts, actor: Actor, asked: NewRollout) -> Rollout:
    return rollouts.start_rollout(parts, actor, asked.digest, asked.plan, promote.demand_approved)


def _list(parts: Parts, actor: Actor, asked: Newest) -> Rollouts:
    with parts.ledger.work(actor.tenant, write=False) as work:
        return Rollouts(rollouts=work.rollouts.latest(asked.limit))


def _show(parts: Parts, actor: Actor, asked: OneRollout) -> rollouts.RolloutReport:
    return rollouts.report_rollout(parts, actor.tenant, asked.rollout)


def _decide(parts: Parts, actor: Actor, asked: Decided) -> Rollout:
    return rollouts.decide_rollout(parts, actor, asked.rollout, asked.decision, asked.reason)


def _drill(parts: Parts, actor: Actor, asked: OneRelease) -> drill.Drill:
    return drill.drill(parts, actor, asked.digest)


START = Operation(
    "rollout.start", "POST", "/api/rollouts", Action.ROLL_OUT, NewRollout, Rollout, _start, "Let a staged release in by degrees."
)
LIST = Operation("rollout.list", "GET", "/api/rollouts", Action.SHOW_RELEASE, Newest, Rollouts, _list, "List rollouts, newest first.")
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
    Decided,
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
