"""Approval rules by risk tier: who must approve a release or a change of production, who may, when it is enough; and moves of an alias."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Approval, ApprovalRule, Release, ReleaseAction, next_state
from tailorbird.domain.value import Digest, Value

#: A drill that is older proves nothing any more.
DRILL_LASTS = timedelta(days=30)


class ChangeRule(Value):
    """What the risk ``tier`` asks before a change. ``rollout``: a release that replaces another passes a progressive rollout. ``drill``: it
    was put in and taken back in staging lately. ``operators``: so many different ones ask for the change."""

    tier: RiskTier
    rollout: bool
    drill: bool
    operators: int


#: Each asks for all that the one before asks for.
_CHANGE_RULES = (
    ChangeRule(tier=RiskTier.MINIMAL, rollout=False, drill=False, operators=1),
    ChangeRule(tier=RiskTier.LIMITED, rollout=True, drill=False, operators=1),
    ChangeRule(tier=RiskTier.HIGH, rollout=True, drill=True, operators=2),
)


def change_rule(*tiers: RiskTier) -> ChangeRule:
    """Strictest of the tiers' rules: those of the release and of what it replaces, so that an edit lowers nothing."""
    return [rule for rule in _CHANGE_RULES if rule.tier in tiers][-1]


#: Raises when an approval's signature is not the identity's, over the approval's statement.
VerifyApproval: TypeAlias = Callable[[Approval, Identity], None]

#: Roles in which one can decide on a release.
DECIDING_ROLES = (Role.APPROVER, Role.REVIEWER)

_APPROVAL_RULES: dict[RiskTier, ApprovalRule] = {
    RiskTier.MINIMAL: ApprovalRule(roles=(Role.APPROVER,), count=1),
    RiskTier.LIMITED: ApprovalRule(roles=(Role.APPROVER,), count=1),
    RiskTier.HIGH: ApprovalRule(roles=DECIDING_ROLES, count=2, distinct_roles=2, no_data_author=True),
}


def rule_for(objective: Objective) -> ApprovalRule:
    """Approval rule of ``objective``: by its risk tier, or stricter where it lists roles, one per approval.

    A list can only add: with fewer people or roles than the tier asks, the tier's count. Raises InvalidInput for a role that cannot decide.
    """
    tier = _tier(objective)
    if objective.approvals == "auto":
        return tier
    listed = tuple(_deciding(name) for name in objective.approvals)
    roles = tuple(dict.fromkeys(listed if len(set(listed)) >= tier.distinct_roles else listed + tier.roles))
    distinct = max(len(set(listed)), tier.distinct_roles)
    return tier.model_copy(update={"roles": roles, "count": max(len(listed), tier.count), "distinct_roles": distinct})


def _tier(objective: Objective) -> ApprovalRule:
    """What the risk tier asks. At the high one, whoever made the data does not judge what was learned from them."""
    tier = _APPROVAL_RULES[objective.business.risk]
    authors = objective.data_authors
    return tier.model_copy(update={"data_authors": authors}) if tier.no_data_author else tier


def stricter(one: ApprovalRule, other: ApprovalRule) -> ApprovalRule:
    """Rule that satisfies both."""
    roles = tuple(dict.fromkeys((*one.roles, *other.roles)))
    return ApprovalRule(
        roles=roles,
        count=max(one.count, other.count),
        distinct_roles=max(one.distinct_roles, other.distinct_roles),
        data_authors=one.data_authors | other.data_authors,
        no_data_author=one.no_data_author or other.no_data_author,
    )


def check_may_decide(release: Release, rule: ApprovalRule, identity: Identity) -> None:
    """Returns when ``identity`` may approve or reject ``release``.

    Raises Forbidden: ``identity_disabled``, ``other_tenant``, ``own_release`` (the author, or the author's key), ``own_data`` (a data
    author, where the rule asks for others), ``role_missing``.
    """
    if identity.disabled_at is not None:
        raise Forbidden(f"{identity.name} is disabled", "ask an admin to enable the identity, or act as another", code="identity_disabled")
    if identity.tenant != release.content.tenant:
        raise Forbidden(
            f"{identity.name} belongs to another tenant than release {short(release.digest)}",
            "act as an identity of the release's tenant",
            code="other_tenant",
        )
    if _is_author(release, identity):
        raise Forbidden(
            f"{identity.name} made release {short(release.digest)} and cannot decide on it",
            "ask somebody else who may decide",
            code="own_release",
        )
    if _is_data_author(rule, identity):
        raise Forbidden(
            f"{identity.name} made data that release {short(release.digest)} learned from, or makes data, and cannot decide on it",
            "ask somebody who may decide and made none of the data",
            code="own_data",
        )
    if not any(identity.holds(role) for role in rule.roles):
        may = " or ".join(role.value for role in rule.roles)
        raise Forbidden(
            f"deciding on release {short(release.digest)} needs the role {may}", f"ask an identity that is {may}", code="role_missing"
        )


class QuorumStanding(Value):
    """Which approvals of a release count, who may still decide, and what is missing: so many ``people`` more, among them ``kinds`` of the
    ``roles`` that nobody has approved in. ``rejected_by`` ends it."""

    rule: ApprovalRule
    counted: tuple[Approval, ...]
    deciders: tuple[Identity, ...]
    rejected_by: tuple[str, ...]
    people: int
    kinds: int
    roles: tuple[Role, ...]

    @property
    def is_reached(self) -> bool:
        """True when enough valid approvals stand, and nobody has rejected."""
        return not self.rejected_by and not self.people


def deciding_role(release: Release, rule: ApprovalRule, identity: Identity, standing: QuorumStanding) -> Role:
    """The role in which ``identity`` decides: one the rule names and nobody has approved in yet, where there is a choice; of several the
    one that the fewest others hold who may still decide, so that whoever holds two roles takes none from those who hold one.

    Raises Forbidden as ``check_may_decide``.
    """
    check_may_decide(release, rule, identity)
    held = [role for role in rule.roles if identity.holds(role)]
    taken = {approval.role for approval in standing.counted}
    free = [role for role in held if role not in taken] or held
    others = [person for person in standing.deciders if person.name != identity.name]
    return min(free, key=lambda role: sum(person.holds(role) for person in others))


def quorum(release: Release, rule: ApprovalRule, identities: Mapping[str, Identity], verify: VerifyApproval) -> QuorumStanding:
    """How the approvals of a release stand.

    An approval counts when it is of this release on this dossier, by a known identity of the tenant that holds the role named and is not
    the author, nor a data author where the rule asks for others. What somebody approved before they were disabled stands; what a key
    signed that was struck as leaked does not.
    ``identities`` are the tenant's, by name. Whatever ``verify`` raises (Corrupt) goes on to the caller: a forged signature is not a
    missing one.
    """
    counted = list(_counting(release, rule, identities, verify))
    people = {identity.name for _, identity in counted}
    keys = {identity.public_key for _, identity in counted}
    roles = {approval.role for approval, _ in counted}
    kinds = max(0, rule.distinct_roles - len(roles))
    return QuorumStanding(
        rule=rule,
        counted=tuple(approval for approval, _ in counted),
        deciders=tuple(person for person in identities.values() if person.name not in people and _may_decide(release, rule, person)),
        rejected_by=tuple(approval.identity for approval in release.approvals if approval.decision == "reject"),
        people=max(0, kinds, rule.count - min(len(people), len(keys))),
        kinds=kinds,
        roles=tuple(role for role in rule.roles if role not in roles) if kinds else (),
    )


def _may_decide(release: Release, rule: ApprovalRule, person: Identity) -> bool:
    try:
        check_may_decide(release, rule, person)
    except Forbidden:
        return False
    return not person.pending


def _counting(
    release: Release, rule: ApprovalRule, identities: Mapping[str, Identity], verify: VerifyApproval
) -> Iterator[tuple[Approval, Identity]]:
    for approval in release.approvals:
        identity = identities.get(approval.identity)
        if identity is None or not _counts(release, rule, approval, identity):
            continue
        verify(approval, identity)
        yield approval, identity


def _counts(release: Release, rule: ApprovalRule, approval: Approval, identity: Identity) -> bool:
    """Everything about an approval but the mathematics of its signature."""
    return (
        approval.decision == "approve"
        and approval.release == release.digest
        and approval.dossier == digest_of(release.dossier)
        and approval.signature.digest == digest_of(approval.statement())
        and approval.signature.identity == identity.name
        and approval.signature.public_key in (identity.public_key, *identity.former_keys)
        and identity.tenant == release.content.tenant
        and approval.role in rule.roles
        and approval.role in identity.roles
        and not identity.pending
        and (identity.disabled_at is None or approval.signature.at < identity.disabled_at)
        and not _is_author(release, identity)
        and not _is_data_author(rule, identity)
    )


def _is_author(release: Release, identity: Identity) -> bool:
    return identity.name == release.content.author or identity.public_key == release.signature.public_key


def _is_data_author(rule: ApprovalRule, identity: Identity) -> bool:
    return identity.name in rule.data_authors or (rule.no_data_author and Role.DATA_AUTHOR in identity.roles)


def _deciding(name: str) -> Role:
    for role in DECIDING_ROLES:
        if role.value == name:
            return role
    known = ", ".join(role.value for role in DECIDING_ROLES)
    raise InvalidInput(f"the role {name!r} cannot decide on a release", f"list roles among: {known}")


def promoted(alias: Alias | None, release: Release, now: datetime, actor: str) -> Alias:
    """Alias ``tenant/objective`` with ``release`` as its only target; the former targets are kept for a rollback.

    ``alias`` is None for a name that never pointed anywhere. Raises Conflict when the release is neither staged nor rolling out, or the
    alias is another objective's.
    """
    next_state(release.state, ReleaseAction.PROMOTE)
    content = release.content
    path = f"{content.tenant}/{content.objective_name}"
    if alias is not None and alias.path != path:
        raise Conflict(f"the alias {alias.path} is not that of {path}", f"promote a release of {alias.path}")
    return Alias(
        tenant=content.tenant,
        name=content.objective_name,
        targets=(AliasTarget(release=release.digest),),
        previous=alias.targets if alias else (),
        version=alias.version + 1 if alias else 1,
        moved_at=now,
        moved_by=actor,
    )


def rolled_back(alias: Alias, now: datetime, actor: str) -> Alias:
    """Alias with its former targets, or without any (withdrawn) when there were none.

    A rollback is one step: what it leaves is final, so nothing is remembered. Raises Conflict when the alias is withdrawn already.
    """
    if not alias.targets:
        raise Conflict(f"{alias.path} has nothing in production", "promote a release first: tailorbird promote DIGEST")
    return alias.model_copy(
        update={"targets": alias.previous, "previous": (), "version": alias.version + 1, "moved_at": now, "moved_by": actor}
    )


@dataclass(frozen=True)
class AliasTrial:
    """Trial of a second release: shadow traffic (``share`` None), or a share of the users, drawn with ``salt``."""

    incumbent: Digest
    candidate: Digest
    share: float | None
    salt: str


def with_trial(alias: Alias, trial: AliasTrial, now: datetime, actor: str) -> Alias:
    """Alias with the release of ``trial`` beside the incumbent; the targets before the incumbent stay remembered."""
    whole = 10_000
    candidate = round(whole * trial.share) if trial.share else 0
    both = (AliasTarget(release=trial.incumbent, weight=whole - candidate), AliasTarget(release=trial.candidate, weight=candidate))
    return _moved(
        alias,
        now,
        actor,
        targets=both if candidate else (AliasTarget(release=trial.incumbent),),
        mirror=None if candidate else trial.candidate,
        salt=trial.salt,
    )


def restored(alias: Alias, incumbent: Digest, now: datetime, actor: str) -> Alias:
    """Alias with ``incumbent`` as its only target, as before a trial."""
    return _moved(alias, now, actor, targets=(AliasTarget(release=incumbent),), mirror=None, salt="")


def _moved(alias: Alias, now: datetime, actor: str, **changes: object) -> Alias:
    return alias.model_copy(update={"version": alias.version + 1, "moved_at": now, "moved_by": actor} | changes)
