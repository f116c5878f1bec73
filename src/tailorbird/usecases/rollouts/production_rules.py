"""What a risk tier demands of those who change production: a drill, a rollout, several operators.

What was drilled, and who asked for a change, stands in the event log: nobody can edit it.
"""

from __future__ import annotations

from datetime import timedelta

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Conflict, Forbidden
from tailorbird.domain.identity import Role
from tailorbird.domain.objective import LiveKpi, Objective
from tailorbird.domain.release import Release, ReleaseAction, ReleaseState, next_state
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.release import DRILL_LASTS, ChangeRule, change_rule
from tailorbird.usecases.anchored_rows import anchored_alias, anchored_identities, demand_anchored
from tailorbird.usecases.approvals import demand_approved
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.released_ranker import demand_ranker

#: How long one operator's word waits for another's.
ASKED_LASTS = timedelta(hours=24)

#: That a release answers again because the one after it was taken back.
RESTORED = "release.restored"
#: What uses up the words that were given for a release.
_CHANGES = frozenset({"release.promoted", "release.rolled_back", RESTORED, "rollout.started", "rollout.promoted", "rollout.rolled_back"})


def rule_of(work: UnitOfWork, release: Release) -> ChangeRule:
    """What the tiers of the release, and of what answers its name now, demand."""
    alias = anchored_alias(work, release.content.objective_name)
    replaced = [work.releases.get(target.release) for target in (alias.targets if alias else ())]
    demand_anchored(work, release, *replaced)
    return change_rule(release.content.risk, *(each.content.risk for each in replaced))


def live_kpis_of(work: UnitOfWork, release: Release) -> tuple[LiveKpi, ...]:
    """What users must say of the release before it answers all of them. Raises NotFound where its objective is not on record."""
    return work.records.get(Objective, release.content.objective).live_kpis


def demand_drill(work: UnitOfWork, release: Release, rule: ChangeRule, deps: Dependencies) -> None:
    """Raises Conflict (``drill_needed``) where the tier demands a drill and there was none lately."""
    since = deps.clock.now() - DRILL_LASTS
    drilled = any(entry.event.kind == "release.drilled" and entry.event.at >= since for entry in work.events.about(release.digest))
    if rule.drill and not drilled:
        raise Conflict(
            f"the tier {rule.tier.value} demands a drill of the release within {DRILL_LASTS.days} days",
            f"run: tailorbird drill {short(release.digest)}",
            code="drill_needed",
        )


def demand_direct(deps: Dependencies, work: UnitOfWork, release: Release) -> ReleaseState:
    """The state after a promotion without a rollout. Raises what ``promote`` raises but for a second operator: Conflict where the release
    must pass a rollout or a drill first, or a rollout of the name goes on; Forbidden without approvals."""
    after, name, rule = _direct(release), release.content.objective_name, rule_of(work, release)
    if work.rollouts.open(name):
        raise Conflict(f"a rollout of {work.tenant}/{name} goes on", "end it first: tailorbird rollout list", code="rollout_open")
    alias = anchored_alias(work, name)
    if alias is not None and alias.targets:
        _demand_no_rollout(work, release, rule)
    demand_approved(work, release)
    demand_ranker(work, release)
    demand_drill(work, release, rule, deps)
    return after


def _demand_no_rollout(work: UnitOfWork, release: Release, rule: ChangeRule) -> None:
    """Raises Conflict (``rollout_needed``) where a release that replaces another must be let in by degrees."""
    live = ", ".join(kpi.metric for kpi in live_kpis_of(work, release))
    why = f"the tier {rule.tier.value} demands a progressive rollout" if rule.rollout else ""
    why = why or (f"the objective states live KPIs ({live}), which are proven while a part of the users get the release" if live else "")
    if why:
        raise Conflict(why, f"run: tailorbird rollout start {short(release.digest)}", code="rollout_needed")


def _direct(release: Release) -> ReleaseState:
    """The same by its state alone. Raises Conflict: one that is rolling out ends by its rollout alone."""
    if release.state is ReleaseState.ROLLING_OUT:
        raise Conflict("the release is rolling out", "decide on its rollout: tailorbird rollout list", code="rollout_open")
    return next_state(release.state, ReleaseAction.PROMOTE)


def next_command(deps: Dependencies, work: UnitOfWork, release: Release) -> str:
    """What brings a staged release before users, as the rules stand: the command, or what keeps it from there."""
    try:
        demand_drill(work, release, rule_of(work, release), deps)
        demand_direct(deps, work, release)
    except (Conflict, Forbidden) as error:
        return error.hint.removeprefix("run: ")
    return f"tailorbird promote {short(release.digest)}"


def demand_operators(deps: Dependencies, actor: Actor, digest: str, change: str) -> None:
    """Returns when as many operators have asked for this ``change`` of the release as the tier demands, the actor among them.

    Otherwise the actor's word is recorded. Raises Conflict (``second_operator``) then.
    """
    with deps.ledger.work(actor.tenant) as work:
        release = work.releases.get(digest)
        rule = rule_of(work, release)
        if rule.operators < 2 or _others_asked(deps, work, actor, (release, change)):
            return
        record(work, "release.change_asked", actor.name, release.digest, deps.clock.now(), {"change": change})
    raise Conflict(
        f"the tier {rule.tier.value} demands two operators; your word is recorded",
        "let another operator run the same command within 24 hours",
        code="second_operator",
    )


def _others_asked(deps: Dependencies, work: UnitOfWork, actor: Actor, asked: tuple[Release, str]) -> bool:
    """Whether another operator's word waits: for the same change, and not used by one that was made since."""
    (release, change), since = asked, deps.clock.now() - ASKED_LASTS
    operators = {person.name: person.public_key for person in anchored_identities(work) if person.holds(Role.OPERATOR)}
    waiting: set[str] = set()
    for event in (entry.event for entry in work.events.about(release.digest)):
        if event.kind in _CHANGES:
            waiting.clear()
        elif event.kind == "release.change_asked" and event.at >= since and event.data.get("change") == change:
            waiting.add(event.actor)
    return any(name != actor.name and operators.get(name) not in (None, actor.identity.public_key) for name in waiting)
