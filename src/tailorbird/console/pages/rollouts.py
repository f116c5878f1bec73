"""Rollouts: where each is, what its guards say, and what people decide."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.rendering import PageContext, see_other
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.rollout import TRANSITIONS, Rollout, RolloutPlan, RolloutStep
from tailorbird.reporting.evidence_page import difference_range
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.rollouts.drill import drill_release
from tailorbird.usecases.rollouts.rollouts import decide_rollout, list_rollouts, show_rollout, start_rollout

#: Decisions on offer, and what they are called.
_DECISIONS = {"hold": "Hold", "resume": "Let it go on", "promote": "Promote", "roll_back": "Take it back"}
_UNPROVEN = {"promote_unproven": "Promote without proof"}

_GUARDED = "Guards watch errors, latency, refusals, form, cost and feedback; they take it back, by accident at most {:g} % of the time."
_ANOTHER_WAY = "Another way, with steps and guards of your own: tailorbird rollout start."


def show_all(visit: PageContext) -> Response:
    """All rollouts, newest first."""
    return visit.page("rollouts.html", rollouts=visit.ask(list_rollouts).rollouts)


def show(visit: PageContext) -> Response:
    """One rollout with its guards, segments and history."""
    found = visit.ask(show_rollout, rollout=visit.named("rollout"))
    lacking = any(live.standing != "proven" for live in found.judgement.live)
    offered = _offered(found.rollout, lacking=lacking) if visit.may(Action.DECIDE_ROLLOUT) else ()
    parts = {"rollout": found.rollout, "judged": found.judgement}
    return visit.page("rollout.html", 200, found=found, offered=offered, difference=difference_range, **parts)


def confirm(visit: PageContext) -> Response:
    """Asks before a decision."""
    decision, rollout = visit.named("decision"), visit.named("rollout")
    words = (_DECISIONS | _UNPROVEN).get(decision)
    if words is None:
        raise InvalidInput("there is no such decision", "go back, and choose one", code="field_invalid", param="decision")
    return visit.page(
        "confirm.html",
        title=f"{words}: rollout {rollout}",
        told=("Guards go on watching as long as the rollout is open.",),
        button=words,
        back=f"/console/rollouts/{rollout}",
        ask_reason=True,
    )


def decide(visit: PageContext) -> Response:
    """Decides."""
    fields = {"rollout": visit.named("rollout"), "decision": visit.named("decision"), "reason": visit.form.get("reason", "")}
    return see_other(f"/console/rollouts/{visit.ask_form(decide_rollout, **fields).id}")


def confirm_start(visit: PageContext) -> Response:
    """Asks before a progressive rollout starts, and shows its steps."""
    release = _staged(visit)
    plan = RolloutPlan()
    told = (f"The way: {', then '.join(map(_words, plan.steps))}, then production.", _GUARDED.format(100 * plan.alpha), _ANOTHER_WAY)
    return _confirm(visit, f"Roll release {short(release.digest)} out", told, "Begin", release)


def start(visit: PageContext) -> Response:
    """Begins a rollout by the usual steps."""
    return see_other(f"/console/rollouts/{visit.ask(start_rollout, digest=visit.named('digest')).id}")


def confirm_drill(visit: PageContext) -> Response:
    """Asks before a drill."""
    release = _staged(visit)
    told = ("Its staging name is moved to it and back; no user's request is touched. This can take some seconds.",)
    return _confirm(visit, f"Drill release {short(release.digest)}", told, "Drill it", release)


def drill(visit: PageContext) -> Response:
    """Rehearses, and tells the seconds."""
    done = visit.ask(drill_release, digest=visit.named("digest"))
    return visit.page("drill.html", drill=done)


def _staged(visit: PageContext) -> Release:
    """Raises Conflict where the release is not staged: nothing is asked that could not be done."""
    release = visit.ask(show_release, digest=visit.named("digest"))
    if release.state is not ReleaseState.STAGED:
        raise Conflict(f"release {short(release.digest)} is {release.state.value}, not staged", "stage it first", code="release_state")
    return release


def _confirm(visit: PageContext, title: str, told: tuple[str, ...], button: str, release: Release) -> Response:
    back = f"/console/releases/{release.digest.removeprefix('sha256:')}"
    return visit.page("confirm.html", title=title, told=told, button=button, back=back, ask_reason=False)


def _words(step: RolloutStep) -> str:
    asked = "requests mirrored" if step.kind == "shadow" else f"{100 * step.share:g} % of the users"
    return f"{asked} for at least {step.requests:,} requests" if step.requests else asked


def _offered(rollout: Rollout, *, lacking: bool) -> tuple[tuple[str, str], ...]:
    """What the state allows: words and addresses of the buttons. Where a live KPI is ``lacking`` its proof, promoting says so."""
    allowed = {action.value for state, action in TRANSITIONS if state is rollout.state}
    here = f"/console/rollouts/{rollout.id}"
    offered = {decision: words for decision, words in _DECISIONS.items() if decision in allowed}
    if lacking and offered.pop("promote", ""):
        offered |= _UNPROVEN
    return tuple((words, f"{here}/{decision}") for decision, words in offered.items())
