"""Rollouts: where each is, what its guards say, and what people decide.

In: a session. Out: pages. Must not know: how a guard is tested.
"""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.access import Action
from tailorbird.console.visit import Visit, see_other
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.rollout import TRANSITIONS, Rollout
from tailorbird.lifecycle.control import rollouts

#: Decisions on offer, and what they are called.
_DECISIONS = {"hold": "Hold", "resume": "Let it go on", "promote": "Promote", "roll_back": "Take it back"}


def show_all(visit: Visit) -> Response:
    """All rollouts, newest first."""
    return visit.page("rollouts.html", rollouts=visit.ask(rollouts.LIST).rollouts)


def show(visit: Visit) -> Response:
    """One rollout with its guards, segments and history."""
    found = visit.ask(rollouts.SHOW, rollout=visit.named("rollout"))
    offered = _offered(found.rollout) if visit.may(Action.DECIDE_ROLLOUT) else ()
    return visit.page("rollout.html", found=found, rollout=found.rollout, judged=found.judgement, offered=offered)


def confirm(visit: Visit) -> Response:
    """Asks before a decision."""
    decision, rollout = visit.named("decision"), visit.named("rollout")
    if decision not in _DECISIONS:
        raise InvalidInput("there is no such decision", "go back, and choose one", code="field_invalid", param="decision")
    return visit.page(
        "confirm.html",
        title=f"{_DECISIONS[decision]}: rollout {rollout}",
        told=("Guards go on watching as long as the rollout is open.",),
        button=_DECISIONS[decision],
        back=f"/console/rollouts/{rollout}",
        ask_reason=True,
    )


def decide(visit: Visit) -> Response:
    """Decides."""
    fields = {"rollout": visit.named("rollout"), "decision": visit.named("decision"), "reason": visit.form.get("reason", "")}
    return see_other(f"/console/rollouts/{visit.ask(rollouts.DECIDE, **fields).id}")


def _offered(rollout: Rollout) -> tuple[tuple[str, str], ...]:
    """What the state allows: the words on the buttons, and where they lead."""
    allowed = {action.value for state, action in TRANSITIONS if state is rollout.state}
    here = f"/console/rollouts/{rollout.id}"
    return tuple((words, f"{here}/{decision}") for decision, words in _DECISIONS.items() if decision in allowed)
