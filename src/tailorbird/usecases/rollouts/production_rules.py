"""What a risk tier demands of those who change production: a drill, a rollout, several operators.

What was drilled, and who asked for a change, stands in the event log: nobody can edit it.
"""

from __future__ import annotations

from datetime import timedelta

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Conflict
from tailorbird.domain.identity import Role
from tailorbird.domain.objective import LiveKpi, Objective
from tailorbird.domain.release import Release
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.release import DRILL_LASTS, ChangeRule, change_rule
from tailorbird.usecases.anchored_rows import anchored_alias, anchored_identities, demand_anchored
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies

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
            f"the tier {release.content.risk.value} demands a drill of the release within {DRILL_LASTS.days} days",
            f"run: tailorbird drill {short(release.digest)}",
            code="drill_needed",
        )


def demand_operators(deps: Dependencies, actor: Actor, digest: str, change: str) -> None:
    """Returns when as many operators have asked for this ``change`` of the release as the tier demands, the actor among them.

    Otherwise the actor's word is recorded. Raises Conflict (``second_operator``) then.
    """
    with deps.ledger.work(actor.tenant) as work:
        release = work.releases.get(digest)
        if rule_of(work, release).operators < 2 or _others_asked(deps, work, actor, (release, change)):
            return
        record(work, "release.change_asked", actor.name, release.digest, deps.clock.now(), {"change": change})
    raise Conflict(
        f"the tier {release.content.risk.value} demands two operators; your word is recorded",
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
