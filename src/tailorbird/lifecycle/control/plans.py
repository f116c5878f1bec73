"""Operations on plans: how good the planner's estimates were, and what it would plan elsewhere.

In: what a caller asks. Out: plans, errors of estimates. Must not know: who calls from where.
"""

from __future__ import annotations

from tailorbird.access import Action
from tailorbird.domain.plan import Plan
from tailorbird.lifecycle.climbing import calibrating
from tailorbird.lifecycle.control.operation import Nothing, Operation
from tailorbird.lifecycle.control.runs import RunId
from tailorbird.lifecycle.explaining.what_if import what_if
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.planning import Change


class WhatIf(Change):
    """A planned run, and what shall be different."""

    run: RunId


def _accuracy(parts: Parts, actor: Actor, _asked: Nothing) -> calibrating.Accuracy:
    return calibrating.accuracy(parts, actor.tenant)


def _what_if(parts: Parts, actor: Actor, asked: WhatIf) -> Plan:
    return what_if(parts, actor.tenant, asked.run, Change(**asked.model_dump(exclude={"run"})))


ACCURACY = Operation(
    "plan.accuracy",
    "GET",
    "/api/accuracy",
    Action.SHOW_RUN,
    Nothing,
    calibrating.Accuracy,
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
