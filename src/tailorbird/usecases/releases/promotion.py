"""What people do to a release: approve or reject it, stage it, put it before users, take it back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.auth import Action, signing
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import Conflict, Forbidden
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.identity import Identity, Signature
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Approval, ApprovalRule, Release, ReleaseAction, ReleaseState, Statement, next_state
from tailorbird.domain.value import Value
from tailorbird.ledger import UnitOfWork
from tailorbird.release import deciding_role, promoted, rolled_back, rule_for
from tailorbird.usecases.anchored_rows import anchored_alias, demand_anchored
from tailorbird.usecases.audit_events import Facts, deny, record, remark
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.label_review import standing_in
from tailorbird.usecases.maintenance.audit import demand_no_fork
from tailorbird.usecases.registry import Reason, ReleaseDigest, usecase
from tailorbird.usecases.releases.load_verification import demand_effect
from tailorbird.usecases.releases.rollouts import take_back
from tailorbird.usecases.releases.rules import (
    APPROVED_ONCE,
    RESTORED,
    anchored_people,
    approval_rule,
    demand_approved,
    demand_direct,
    demand_ranker,
    is_approved,
    is_supplement,
    quorum_standing,
    read_release,
    verify_release,
    wait_for_operators,
)

Decision = Literal["approve", "reject"]
AliasName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Version = Annotated[int, Field(ge=1)]
Withdraw = Annotated[bool, Field(description="Withdraw the name where no release stands to go back to.")]
_DECIDED: dict[Decision, str] = {"approve": "release.approved", "reject": "release.rejected"}


class AliasMove(Value):
    """An alias after a move, and the releases that went in and out of production."""

    alias: Alias
    entered: Release | None
    left: Release | None


@usecase("release.statement", "GET", "/api/releases/{digest}/statement", Action.APPROVE)
def statement(deps: Dependencies, actor: Actor, digest: ReleaseDigest, decision: Decision, reason: Reason = "") -> Statement:
    """What to sign in order to approve or reject it.

    The role in which ``actor`` decides is found here. Raises Forbidden (role, author), Conflict (wrong state).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        try:
            return _statement(work, actor, digest, decision, reason)
        except Forbidden as error:
            refused = error
    deny(deps, actor, "release.decide", digest, refused)
    raise refused


def _statement(work: UnitOfWork, actor: Actor, digest: str, decision: Decision, reason: str) -> Statement:
    """What is to be signed as the record stands now, the actor's own roles included."""
    release, objective, people = read_release(work, digest)
    rule = approval_rule(work, objective)
    standing = quorum_standing(release, rule, people)
    if decision == "reject" or not is_supplement(release, standing):
        next_state(release.state, ReleaseAction.APPROVE if decision == "approve" else ReleaseAction.REJECT)
    role = deciding_role(release, rule, people[actor.name], standing)
    dossier = digest_of(release.dossier)
    return Statement(release=release.digest, dossier=dossier, identity=actor.name, role=role, decision=decision, reason=reason)


@usecase("release.decide", "POST", "/api/releases/{digest}/decisions", Action.APPROVE)
def decide(deps: Dependencies, actor: Actor, digest: ReleaseDigest, statement: Statement, signature: Signature) -> Release:
    """File a signed decision.

    ``statement`` is as ``release.statement`` gave it; its digest is signed for the purpose of the decision. The release moves when the
    quorum is reached, or at the first rejection. Raises Forbidden (role, author), InvalidInput (the signature does not hold), Conflict
    (decided already, wrong state, or another statement than ``release.statement`` gives now).
    """
    # Refuses a statement about another release than the one that was asked for. Raises Conflict.
    if not statement.release.removeprefix("sha256:").startswith(digest.removeprefix("sha256:")):
        raise Conflict("the statement is about another release", "sign a statement about the release you name", code="statement_old")
    return _file_decision(deps, actor, statement, signature)


def _file_decision(deps: Dependencies, actor: Actor, stated: Statement, signature: Signature) -> Release:
    statement(deps, actor, stated.release, stated.decision, stated.reason)
    with deps.ledger.work(actor.tenant) as work:
        release, objective, people = read_release(work, stated.release)
        # Again, in the transaction that files it: of two who decide at once, the second sees what the first has filed.
        if _statement(work, actor, stated.release, stated.decision, stated.reason) != stated:
            raise Conflict(
                "this is not the statement to be signed now", "read the release again, and sign what it says", code="statement_old"
            )
        signing.verify_sent(signature, identity=people[actor.name], purpose=stated.decision, digest=digest_of(stated))
        verify_release(release, people)
        approval = Approval(**dict(stated), signature=signature.model_copy(update={"at": _now(deps)}))
        replaced = _replaced(release, approval, approval_rule(work, objective), people)
        work.releases.approve(approval, instead=replaced)
        if stated.decision == "reject":
            work.releases.move(release.digest, release.state, next_state(release.state, ReleaseAction.REJECT))
        facts: Facts = {"role": approval.role.value, "objective": objective.name}
        kept = _kept(replaced) if replaced else {}
        record(work, _DECIDED[stated.decision], actor.name, release.digest, _now(deps), facts | kept)
        _apply_decision(deps, work, actor, work.releases.get(release.digest), objective)
        return work.releases.get(release.digest)


def _replaced(release: Release, approval: Approval, rule: ApprovalRule, people: dict[str, Identity]) -> Approval | None:
    """The decider's own earlier approval where this one may stand in its place: it is taken back by a rejection, or no longer counts."""
    own = next((one for one in release.approvals if one.identity == approval.identity and one.decision == "approve"), None)
    counts = own in quorum_standing(release, rule, people).counted
    return own if approval.decision == "reject" or not counts else None


def _kept(replaced: Approval) -> Facts:
    """What stays in the log of an approval whose row another one takes: its signature, the key, and the digest of what it signed."""
    made = replaced.signature
    return {
        "replaced.signature": made.signature,
        "replaced.public_key": made.public_key,
        "replaced.digest": made.digest,
        "replaced.at": made.at.isoformat(),
    }


def sign_and_decide(deps: Dependencies, actor: Actor, digest: str, decision: Decision, reason: str) -> Release:
    """Both at once, for an actor whose key is here."""
    stated = statement(deps, actor, digest, decision, reason)
    return decide(deps, actor, digest, stated, actor.sign(decision, digest_of(stated)))


@usecase("release.stage", "POST", "/api/releases/{digest}/stage", Action.STAGE)
def stage(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> Release:
    """Move it to staging.

    Engines may load it then. Raises Forbidden without approvals, or without the label review asked for; Conflict where the release whose
    encoder finds its passages was taken back, or where the tier high is given an effect that cannot be proven.
    """
    with deps.ledger.work(actor.tenant) as work:
        release = work.releases.get(digest)
        after = next_state(release.state, ReleaseAction.STAGE)
        demand_approved(work, release)
        result = standing_in(work, release).result
        if result is not None and result.verdict is not Verdict.PASS:
            raise Forbidden(
                f"release {short(release.digest)} has not passed label review: {result.reason}",
                f"ask a reviewer to run: tailorbird review answers {short(release.digest)}; "
                f"see tailorbird review show {short(release.digest)}",
                code="review_missing",
            )
        demand_effect(work, release, work.records.get(Objective, release.content.objective))
        demand_ranker(work, release)
        work.releases.move(release.digest, release.state, after)
        record(work, "release.staged", actor.name, release.digest, _now(deps))
        return work.releases.get(release.digest)


@usecase("release.promote", "POST", "/api/releases/{digest}/promote", Action.PROMOTE)
def promote(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> AliasMove:
    """Put a staged release before users.

    The alias ``tenant/objective`` points to it then; the release it replaces returns to staging and stays loaded for a while.
    Raises Conflict, among others while the log does not continue what was shipped (``log_forked``).
    """
    demand_no_fork(deps)
    with deps.ledger.work(actor.tenant) as work:
        release = work.releases.get(digest)
        after = demand_direct(deps, work, release)
        waiting = wait_for_operators(deps, work, actor, release, "promote")
        if waiting is None:
            before = anchored_alias(work, release.content.objective_name)
            left = _leave(work, before, ReleaseAction.SUPERSEDE)
            work.releases.move(release.digest, release.state, after)
            alias = promoted(before, release, _now(deps), actor.name)
            work.aliases.put(alias)
            facts: Facts = {"alias": alias.path, "version": alias.version}
            record(work, "release.promoted", actor.name, release.digest, _now(deps), facts | {"replaced": left.digest if left else None})
            return AliasMove(alias=alias, entered=work.releases.get(release.digest), left=left)
    raise waiting


@usecase("alias.rollback", "POST", "/api/aliases/{alias}/rollback", Action.ROLLBACK)
def roll_back(
    deps: Dependencies, actor: Actor, alias: AliasName, reason: Reason = "", version: Version | None = None, withdraw: Withdraw = False
) -> AliasMove:
    """Take the present release of a name back.

    The one before it answers again; where there is none, the name is withdrawn with ``withdraw`` alone. While a rollout
    goes on, its release goes back to staging instead. With ``version``, that of the name when it was looked at, nothing is done where it
    has moved since: two people who see the same alarm take back one release. Raises NotFound, Conflict (nothing in production,
    ``alias_moved``, ``withdrawal_unasked``).
    """
    with deps.ledger.work(actor.tenant) as work:
        before = work.aliases.get(alias)
        demand_anchored(work, before)
        if version not in (None, before.version):
            raise Conflict(
                f"{before.path} has moved since it was looked at: it is at version {before.version}, not {version}",
                "look at what answers now: somebody else may have rolled it back",
                code="alias_moved",
            )
        for rollout in work.rollouts.open(before.name):
            take_back(work, rollout, actor.name, _now(deps), reason)
            return AliasMove(alias=work.aliases.get(before.name), entered=work.releases.get(rollout.incumbent), left=None)
        if not before.targets:
            raise Conflict(f"{before.path} has nothing in production", "promote a release first: tailorbird promote DIGEST")
        after = _only_approved(work, rolled_back(before, _now(deps), actor.name))
        if not after.targets and not withdraw:
            raise Conflict(
                f"no release stands to go back to: {before.path} would answer nobody, and its release be retired for good",
                f"where that is meant: tailorbird rollback {before.name} --withdraw",
                code="withdrawal_unasked",
            )
        left = _leave(work, before, ReleaseAction.WITHDRAW)
        entered = _enter(work, after)
        work.aliases.put(after)
        facts: Facts = {"alias": after.path, "version": after.version, "reason": remark(work, reason)}
        subject = left.digest if left else after.path
        record(work, "release.rolled_back", actor.name, subject, _now(deps), facts | {"now": entered.digest if entered else None})
        for target in after.targets:
            record(work, RESTORED, actor.name, target.release, _now(deps), {"alias": after.path, "version": after.version})
        return AliasMove(alias=after, entered=entered, left=left)


def _apply_decision(deps: Dependencies, work: UnitOfWork, actor: Actor, release: Release, objective: Objective) -> None:
    """Moves a release whose quorum is reached; one that was rejected has moved with the rejection."""
    people = {person.name: person for person in work.identities.all()}
    if is_approved(release, approval_rule(work, objective), people):
        if release.state not in APPROVED_ONCE:
            work.releases.move(release.digest, release.state, next_state(release.state, ReleaseAction.APPROVE))
        record(work, "release.quorum_reached", actor.name, release.digest, _now(deps))


def _leave(work: UnitOfWork, alias: Alias | None, action: ReleaseAction) -> Release | None:
    """Moves the releases an alias pointed to out of production; the last one is returned."""
    left = None
    for target in alias.targets if alias else ():
        release = work.releases.get(target.release)
        work.releases.move(release.digest, release.state, next_state(release.state, action))
        left = work.releases.get(target.release)
    return left


def _only_approved(work: UnitOfWork, alias: Alias) -> Alias:
    """The alias without releases that no engine would load any more: rather withdrawn than pointing to what cannot answer."""
    releases = {target: work.releases.get(target.release) for target in alias.targets}
    people = anchored_people(work, *releases.values())
    objectives = {target: work.records.get(Objective, release.content.objective) for target, release in releases.items()}
    stay = tuple(target for target in alias.targets if is_approved(releases[target], rule_for(objectives[target]), people))
    return alias.model_copy(update={"targets": stay})


def _enter(work: UnitOfWork, alias: Alias) -> Release | None:
    entered = None
    for target in alias.targets:
        work.releases.move(target.release, ReleaseState.STAGED, next_state(ReleaseState.STAGED, ReleaseAction.PROMOTE))
        entered = work.releases.get(target.release)
    return entered


def _now(deps: Dependencies) -> datetime:
    return deps.clock.now()
