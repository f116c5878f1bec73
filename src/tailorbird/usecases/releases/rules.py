"""What a release must have before it answers users: approvals, a drill, a rollout, several operators, an encoder that nobody took back."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

from tailorbird.auth import signing
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.erasure import Certificate
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, NotFound
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import LiveKpi, Objective, TaskKind
from tailorbird.domain.plan import PlannedRanker
from tailorbird.domain.prompt import ReleaseName
from tailorbird.domain.release import Approval, ApprovalRule, Release, ReleaseAction, ReleaseState, next_state
from tailorbird.ledger import UnitOfWork
from tailorbird.objective import Fault, ObjectiveFile, raise_faults
from tailorbird.release import DRILL_LASTS, ChangeRule, QuorumStanding, change_rule, quorum, rule_for, stricter
from tailorbird.usecases.anchored_rows import anchored_alias, anchored_erasures, anchored_identities, demand_anchored
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies

#: States that a release reaches by its approvals.
APPROVED_ONCE = (ReleaseState.APPROVED, ReleaseState.STAGED, ReleaseState.ROLLING_OUT, ReleaseState.PRODUCTION)


def verify_release(release: Release, people: dict[str, Identity]) -> None:
    """Checks that content and dossier are what their digests say, and that the author, or a worker for the author, signed them.

    Raises Corrupt or Forbidden.
    """
    signer = people.get(release.signature.identity)
    if signer is None or not (signer.name == release.content.author or Role.WORKER in signer.roles):
        raise Forbidden(
            f"release {short(release.digest)} is signed by nobody who may: neither its author nor a worker of this tenant",
            "restore the identity that signed it, or adapt again",
        )
    if digest_of(release.content) != release.digest or release.dossier.release != release.digest:
        raise Corrupt(
            f"release {short(release.digest)} is not what its digest says",
            "the record was changed outside tailorbird: run tailorbird audit verify, and restore a backup",
            code="release_changed",
        )
    signing.verify(release.signature, identity=signer, purpose="release", digest=digest_of(release.dossier))


def quorum_standing(release: Release, rule: ApprovalRule, people: dict[str, Identity]) -> QuorumStanding:
    """Which approvals count, and what is missing. Raises Corrupt when one of them does not verify."""

    def verify(approval: Approval, identity: Identity) -> None:
        signing.verify(approval.signature, identity=identity, purpose=approval.decision, digest=digest_of(approval.statement()))

    return quorum(release, rule, people, verify)


def is_approved(release: Release, rule: ApprovalRule, people: dict[str, Identity]) -> bool:
    """True when a quorum of valid, signed approvals stands. Raises Corrupt when one of them does not verify."""
    return quorum_standing(release, rule, people).is_reached


def is_supplement(release: Release, standing: QuorumStanding) -> bool:
    """True where a release that was approved takes approvals again, because it no longer is: a key that approved it leaked, or what it is
    to replace asks for more."""
    return release.state in APPROVED_ONCE and not standing.is_reached


def demand_approved(work: UnitOfWork, release: Release) -> None:
    """Raises Forbidden unless the release has the approvals that production needs, Corrupt where something signed does not verify."""
    _, objective, people = read_release(work, release.digest)
    verify_release(release, people)
    standing = quorum_standing(release, approval_rule(work, objective), people)
    if not standing.is_reached:
        raise Forbidden(
            f"release {short(release.digest)} lacks valid approvals: {missing_text(standing)}",
            f"let them run: tailorbird release approve {short(release.digest)}",
            code="not_approved",
        )


def missing_text(standing: QuorumStanding) -> str:
    """What a release still needs before it is approved, in a clause: how many, in which roles, and who may. More people than roles: the
    others may approve in any role of the rule."""
    if standing.rejected_by:
        return f"rejected by {', '.join(standing.rejected_by)}"
    if standing.is_reached:
        return "no approval is missing"
    kinds, anybody = standing.kinds, standing.people > standing.kinds
    missing = " or ".join(role.value for role in standing.roles)
    roles = " or ".join(role.value for role in standing.rule.roles) if anybody else missing
    several = f", {standing.rule.distinct_roles} roles in all" if standing.rule.distinct_roles > 1 else ""
    if anybody and kinds and standing.counted:
        several = f", {'one' if kinds == 1 else kinds} of them by {missing}"
    may = [person.name for person in standing.deciders if anybody or any(person.holds(role) for role in standing.roles)]
    whom = f"who may: {', '.join(may)}" if may else "nobody may: an admin adds an identity with the role"
    return f"{standing.people} more {'approval' if standing.people == 1 else 'approvals'} by {roles}{several}; {whom}"


def approval_rule(work: UnitOfWork, objective: Objective) -> ApprovalRule:
    """What the objective asks, and what the objectives of the releases ask that it would replace: a tier is not lowered by an edit."""
    rules = (rule_for(work.records.get(Objective, each.content.objective)) for each in _answering(work, objective.name))
    return reduce(stricter, rules, rule_for(objective))


def _answering(work: UnitOfWork, name: str) -> list[Release]:
    """The releases that answer a public name now, as the log anchors them."""
    alias = anchored_alias(work, name)
    releases = [work.releases.get(target.release) for target in (alias.targets if alias else ())]
    demand_anchored(work, *releases)
    return releases


def read_release(work: UnitOfWork, digest: str) -> tuple[Release, Objective, dict[str, Identity]]:
    """A release, its objective, and the tenant's identities by name. Raises NotFound, Corrupt where one is not as the log anchors it."""
    release = work.releases.get(digest)
    objective = work.records.get(Objective, release.content.objective)
    return release, objective, anchored_people(work, release)


def anchored_people(work: UnitOfWork, *releases: Release) -> dict[str, Identity]:
    """The tenant's identities by name, once they and ``releases`` are found to be as the log anchors them. Raises Corrupt."""
    people = {person.name: person for person in work.identities.all()}
    demand_anchored(work, *releases, *people.values())
    return people


_ENDED = (ReleaseState.RETIRED, ReleaseState.REJECTED)


def find_ranker(work: UnitOfWork, file: ObjectiveFile) -> Release | None:
    """The release that ``grounding.encoder`` names; None where none is named.

    Raises ObjectiveInvalid at its line: ``encoder_missing`` (no such release or alias, or one that answers nothing), or one that is not
    of kind rank, retired, not approved, or learned from rows that were erased since. Raises
    Corrupt where it is not what was signed.
    """
    name = file.objective.grounding.encoder
    if name is None:
        return None
    try:
        found = _named_ranker(work, name)
    except (NotFound, Conflict, Forbidden) as error:
        message = f"`grounding.encoder`: {error.message}"
        raise_faults(file.source, [Fault(file.line_of("grounding.encoder"), message, error.hint, error.error_code)])
    return found


def planned_ranker(work: UnitOfWork, found: Release) -> PlannedRanker:
    """What a plan holds of it."""
    content = found.content
    assert content.retrieval is not None
    bases = (work.records.get(BaseModelRef, digest) for digest in work.records.digests(BaseModelRef))
    base = next((base for base in bases if base.digest == content.base_model), None)
    by_vectors = "vectors" in content.retrieval.ways
    return PlannedRanker(
        objective=content.objective_name,
        release=found.digest,
        made=f"{content.rung.value} on {content.base_model_name}",
        ways=content.retrieval.ways,
        encoder=content.retrieval.encoder if by_vectors else None,
        tuned=content.retrieval.tuned,
        reranker=content.retrieval.reranker,
        depth=content.retrieval.depth,
        parameters=base.parameters if base else 0,
    )


def demand_ranker(work: UnitOfWork, release: Release) -> None:
    """Raises Conflict where the release whose encoder finds the passages of ``release`` was taken back since.

    It is asked before ``release`` is staged, promoted or rolled out. One that answers already goes on: it holds the encoder by digest, and
    was measured with it.
    """
    ranker = ranker_behind(work, release)
    if ranker is not None and ranker.state in _ENDED:
        raise Conflict(
            f"release {short(release.digest)} finds its passages by the encoder of {short(ranker.digest)}, which is {ranker.state.value}",
            f"adapt {release.content.objective_name} again: `grounding.encoder` then stands for a release that nobody took back",
        )


def ranker_behind(work: UnitOfWork, release: Release) -> Release | None:
    """The release whose encoder finds the passages of ``release``; None where it has none."""
    retrieval = release.content.retrieval
    return work.releases.get(retrieval.release) if retrieval and retrieval.release else None


def _named_ranker(work: UnitOfWork, text: str) -> Release:
    """The release that is named by digest or alias, once its encoder may be lent: it is approved, in use, and learned from nobody who was
    erased since. Raises NotFound, Conflict, Forbidden, Corrupt."""
    named = ReleaseName.of(text)
    assert named is not None
    try:
        releases = [work.releases.get(named.digest)] if named.digest else _answering(work, named.name)
    except NotFound as error:
        raise NotFound(error.message, f"see tailorbird release list for what {text} may be", code="encoder_missing") from error
    if not releases:
        raise NotFound(
            f"{text} answers nothing", "see tailorbird release list; promote a release of kind rank first", code="encoder_missing"
        )
    found = next((one for one in releases if one.state is ReleaseState.PRODUCTION), releases[0])
    named_so, retrieval = f"release {short(found.digest)}", found.content.retrieval
    if found.content.task is not TaskKind.RANK or retrieval is None:
        what = f"{named_so} is of kind {found.content.task.value}, and finds no documents"
        raise Conflict(what, "name a release of kind rank: tailorbird release list")
    if found.state in _ENDED:
        hint = "name one that was not taken back: tailorbird release list"
        raise Conflict(f"{named_so} is {found.state.value}", hint)
    _, objective, people = read_release(work, found.digest)
    verify_release(found, people)
    if found.state not in APPROVED_ONCE or not is_approved(found, rule_for(objective), people):
        hint = f"ask an approver to run: tailorbird release approve {short(found.digest)}"
        raise Forbidden(f"{named_so} lacks valid approvals", hint)
    certificates = [work.records.get(Certificate, one.certificate) for one in anchored_erasures(work) if one.certificate]
    if {part for certificate in certificates for part in certificate.reach.adapters} & {retrieval.tuned, retrieval.reranker}:
        what = f"the encoder of {named_so} learned from rows that were erased since"
        raise Conflict(what, f"adapt {found.content.objective_name} again, and name the release that comes of it")
    return found


#: How long one operator's word waits for another's.
ASKED_LASTS = timedelta(hours=24)

#: That a release answers again because the one after it was taken back.
RESTORED = "release.restored"
#: What uses up the words that were given for a release.
_CHANGES = frozenset({"release.promoted", "release.rolled_back", RESTORED, "rollout.started", "rollout.promoted", "rollout.rolled_back"})


def rule_of(work: UnitOfWork, release: Release) -> ChangeRule:
    """What the tiers of the release, and of what answers its name now, demand."""
    demand_anchored(work, release)
    return change_rule(release.content.risk, *(each.content.risk for each in _answering(work, release.content.objective_name)))


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
    if release.state is ReleaseState.ROLLING_OUT:
        raise Conflict("the release is rolling out", "decide on its rollout: tailorbird rollout list", code="rollout_open")
    after, name, rule = next_state(release.state, ReleaseAction.PROMOTE), release.content.objective_name, rule_of(work, release)
    if work.rollouts.open(name):
        raise Conflict(f"a rollout of {work.tenant}/{name} goes on", "end it first: tailorbird rollout list", code="rollout_open")
    alias = anchored_alias(work, name)
    if alias is not None and alias.targets:
        live = ", ".join(kpi.metric for kpi in live_kpis_of(work, release))
        why = f"the tier {rule.tier.value} demands a progressive rollout" if rule.rollout else ""
        why = why or (
            f"the objective states live KPIs ({live}), which are proven while a part of the users get the release" if live else ""
        )
        if why:
            raise Conflict(why, f"run: tailorbird rollout start {short(release.digest)}", code="rollout_needed")
    demand_approved(work, release)
    demand_ranker(work, release)
    demand_drill(work, release, rule, deps)
    return after


def next_command(deps: Dependencies, work: UnitOfWork, release: Release) -> str:
    """What brings a staged release before users, as the rules stand: the command, or what keeps it from there."""
    try:
        demand_drill(work, release, rule_of(work, release), deps)
        demand_direct(deps, work, release)
    except (Conflict, Forbidden) as error:
        return error.hint.removeprefix("run: ")
    return f"tailorbird promote {short(release.digest)}"


def wait_for_operators(deps: Dependencies, work: UnitOfWork, actor: Actor, release: Release, change: str) -> Conflict | None:
    """None when as many operators have asked for this ``change`` of the release as the tier demands, the actor among them, and no change
    was made since. Otherwise records the actor's word, and returns the error (``second_operator``) to raise once that is committed."""
    rule, since = rule_of(work, release), deps.clock.now() - ASKED_LASTS
    operators = {person.name: person.public_key for person in anchored_identities(work) if person.holds(Role.OPERATOR)}
    waiting: set[str] = set()
    for event in (entry.event for entry in work.events.about(release.digest)):
        if event.kind in _CHANGES:
            waiting.clear()
        elif event.kind == "release.change_asked" and event.at >= since and event.data.get("change") == change:
            waiting.add(event.actor)
    others = {name for name in waiting if name != actor.name and operators.get(name) not in (None, actor.identity.public_key)}
    if rule.operators < 2 or others:
        return None
    record(work, "release.change_asked", actor.name, release.digest, deps.clock.now(), {"change": change})
    return Conflict(
        f"the tier {rule.tier.value} demands two operators; your word is recorded",
        "let another operator run the same command within 24 hours",
        code="second_operator",
    )
