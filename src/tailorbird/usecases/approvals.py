"""Approvals of a release: signatures verified, the rule that counts, and what production demands."""

from __future__ import annotations

from functools import reduce

from tailorbird.auth import signing
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import Corrupt, Forbidden
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Approval, ApprovalRule, Release, ReleaseState
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.release import QuorumStanding, quorum, rule_for, stricter
from tailorbird.usecases.anchored_rows import anchored_alias, demand_anchored

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
            code="signer_unknown",
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
    return quorum(release, rule, people, verify=_verify_approval)


def is_approved(release: Release, rule: ApprovalRule, people: dict[str, Identity]) -> bool:
    """True when a quorum of valid, signed approvals stands. Raises Corrupt when one of them does not verify."""
    return quorum_standing(release, rule, people).is_reached


def _verify_approval(approval: Approval, identity: Identity) -> None:
    signing.verify(approval.signature, identity=identity, purpose=approval.decision, digest=digest_of(approval.statement()))


def is_supplement(release: Release, standing: QuorumStanding) -> bool:
    """True where a release that was approved takes approvals again, because it no longer is: a key that approved it leaked, or what it is
    to replace asks for more."""
    return release.state in APPROVED_ONCE and not standing.is_reached


def demand_approved(work: UnitOfWork, release: Release) -> None:
    """Raises Forbidden unless the release has the approvals that production needs, Corrupt where something signed does not verify."""
    _, objective, people = read_release(work, release.digest)
    demand_approval(release, approval_rule(work, objective), people)


def demand_approval(release: Release, rule: ApprovalRule, people: dict[str, Identity]) -> None:
    """The same for a release that has been read."""
    verify_release(release, people)
    standing = quorum_standing(release, rule, people)
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
    alias = anchored_alias(work, objective.name)
    replaced = [work.releases.get(target.release) for target in (alias.targets if alias else ())]
    demand_anchored(work, *replaced)
    rules = (rule_for(work.records.get(Objective, release.content.objective)) for release in replaced)
    return reduce(stricter, rules, rule_for(objective))


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
