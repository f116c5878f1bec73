"""Operations on plans: how good the planner's estimates were, and what it would plan elsewhere."""

from __future__ import annotations

from tailorbird.auth import Action
from tailorbird.domain.plan import Plan
from tailorbird.planning import MachineChange
from tailorbird.usecases.climb import timing
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Nothing, Operation
from tailorbird.usecases.operations.runs import RunId
from tailorbird.usecases.runs.what_if import what_if


class WhatIf(MachineChange):
    """A planned run, and what shall be different."""

    run: RunId


def _accuracy(deps: Dependencies, actor: Actor, _asked: Nothing) -> timing.Accuracy:
    return timing.accuracy(deps, actor.tenant)


def _what_if(deps: Dependencies, actor: Actor, asked: WhatIf) -> Plan:
    return what_if(deps, actor.tenant, asked.run, MachineChange(**asked.model_dump(exclude={"run"})))


ACCURACY = Operation(
    "plan.accuracy",
    "GET",
    "/api/accuracy",
    Action.SHOW_RUN,
    Nothing,
    timing.Accuracy,
    _accuracy,
    "How far estimates were from what trainings took.",
)
WHAT_IF = Operation(
    "plan.what_if",
    "POST",
    "/api/runs/{run}/what-if",
    Action.SHOW_RUN,
    WhatIf,
    Plan,
    _what_if,
    "Plan a run again for another machine, budget or traffic; keeps nothing.",
)
