"""Authorisation policy: one table of actions and the roles that may take them.

Duties are separate: who adapts does not approve, who approves does not promote, who administers does neither, unless somebody gave one
identity several roles; and even then nobody approves a release of their own.
"""

from __future__ import annotations

from enum import StrEnum

from tailorbird.domain.errors import Forbidden
from tailorbird.domain.identity import DECIDING_ROLES, Identity, Role


class Action(StrEnum):
    """Actions on the control plane, as ``noun.verb``."""

    PLAN = "objective.plan"
    ADAPT = "objective.adapt"
    UPLOAD = "file.upload"
    PULL_MODEL = "model.pull"
    SHOW_RUN = "run.show"
    CANCEL_RUN = "run.cancel"
    ALLOW_RUNG = "run.allow"
    WORK = "run.work"
    SHOW_RELEASE = "release.show"
    APPROVE = "release.approve"
    REJECT = "release.reject"
    JUDGE = "release.judge"
    STAGE = "release.stage"
    PROMOTE = "release.promote"
    ROLLBACK = "release.rollback"
    ROLL_OUT = "rollout.start"
    DECIDE_ROLLOUT = "rollout.decide"
    DRILL = "release.drill"
    EXPORT = "release.export"
    GIVE_FEEDBACK = "feedback.give"
    REVIEW = "review.settle"
    EXPLAIN = "request.explain"
    SHOW_TRAFFIC = "traffic.show"
    WATCH = "traffic.watch"
    CREATE_KEY = "key.create"
    LIST_KEYS = "key.list"
    LIMIT_KEY = "key.limit"
    REVOKE_KEY = "key.revoke"
    ROTATE_KEY = "key.rotate"
    ADD_IDENTITY = "identity.add"
    CONFIRM_IDENTITY = "identity.confirm"
    DISABLE_IDENTITY = "identity.disable"
    ROTATE_IDENTITY = "identity.rotate"
    SHOW_IDENTITY = "identity.show"
    SHOW_TENANT = "tenant.show"
    MANAGE_TENANTS = "tenant.manage"
    SET_POLICY = "tenant.policy"
    VERIFY_AUDIT = "audit.verify"
    CHECKPOINT = "audit.checkpoint"
    SETTLE_LOG = "audit.settle"
    SHOW_DATA = "data.show"
    READ_DATA = "data.read"
    FIX_DATA = "data.fix"
    ERASE_DATA = "data.erase"
    BACK_UP = "workspace.back_up"
    SESSION = "session.own"


_ANYONE = frozenset(Role)
_DECIDERS = frozenset({Role.APPROVER, Role.REVIEWER})

#: The whole policy. An identity may do what any one of its roles may. Reviewers decide too where a rule asks for two roles.
ROLES_FOR: dict[Action, frozenset[Role]] = {
    Action.PLAN: frozenset({Role.AUTHOR}),
    Action.ADAPT: frozenset({Role.AUTHOR}),
    Action.UPLOAD: frozenset({Role.AUTHOR, Role.DATA_AUTHOR}),
    Action.PULL_MODEL: frozenset({Role.AUTHOR, Role.OPERATOR, Role.ADMIN}),
    Action.SHOW_RUN: _ANYONE,
    Action.CANCEL_RUN: frozenset({Role.AUTHOR, Role.OPERATOR, Role.ADMIN}),
    Action.ALLOW_RUNG: _DECIDERS,
    Action.WORK: frozenset({Role.WORKER}),
    Action.SHOW_RELEASE: _ANYONE,
    Action.APPROVE: _DECIDERS,
    Action.REJECT: _DECIDERS,
    Action.JUDGE: _DECIDERS,
    Action.STAGE: frozenset({Role.OPERATOR}),
    Action.PROMOTE: frozenset({Role.OPERATOR}),
    Action.ROLLBACK: frozenset({Role.OPERATOR, Role.APPROVER}),
    Action.ROLL_OUT: frozenset({Role.OPERATOR}),
    Action.DECIDE_ROLLOUT: frozenset({Role.OPERATOR}),
    Action.DRILL: frozenset({Role.OPERATOR}),
    Action.EXPORT: frozenset({Role.OPERATOR}),
    Action.GIVE_FEEDBACK: _ANYONE,
    Action.REVIEW: frozenset({Role.REVIEWER, Role.APPROVER}),
    Action.EXPLAIN: _ANYONE,
    Action.SHOW_TRAFFIC: _ANYONE,
    Action.WATCH: frozenset({Role.OPERATOR, Role.WORKER}),
    Action.CREATE_KEY: frozenset({Role.ADMIN}),
    Action.LIST_KEYS: frozenset({Role.ADMIN, Role.OPERATOR}),
    Action.LIMIT_KEY: frozenset({Role.ADMIN}),
    Action.REVOKE_KEY: frozenset({Role.ADMIN, Role.OPERATOR}),
    Action.ROTATE_KEY: frozenset({Role.ADMIN}),
    Action.ADD_IDENTITY: frozenset({Role.ADMIN}),
    Action.CONFIRM_IDENTITY: DECIDING_ROLES,
    Action.DISABLE_IDENTITY: frozenset({Role.ADMIN}),
    Action.ROTATE_IDENTITY: _ANYONE,
    Action.SHOW_IDENTITY: _ANYONE,
    Action.SHOW_TENANT: _ANYONE,
    Action.MANAGE_TENANTS: frozenset({Role.ADMIN}),
    Action.SET_POLICY: frozenset({Role.ADMIN}),
    Action.VERIFY_AUDIT: _ANYONE,
    Action.CHECKPOINT: frozenset({Role.ADMIN, Role.OPERATOR, Role.WORKER}),
    Action.SETTLE_LOG: frozenset({Role.ADMIN}),
    Action.SHOW_DATA: _ANYONE,
    Action.READ_DATA: frozenset({Role.AUTHOR, Role.REVIEWER}),
    Action.FIX_DATA: frozenset({Role.AUTHOR, Role.REVIEWER}),
    Action.ERASE_DATA: frozenset({Role.ADMIN}),
    Action.BACK_UP: frozenset({Role.ADMIN, Role.OPERATOR}),
    Action.SESSION: _ANYONE,
}


def authorise(identity: Identity, action: Action) -> None:
    """Returns when one of the identity's roles allows ``action``.

    Raises Forbidden: ``identity_disabled``, a second signature is missing, or ``role_missing`` naming the roles that may.
    """
    demand_enabled(identity)
    allowed = ROLES_FOR[action]
    if identity.roles & allowed:
        return
    held = ", ".join(sorted(identity.roles)) or "no role"
    may = " or ".join(sorted(allowed))
    raise Forbidden(
        f"{action.value} needs the role {may}; {identity.name} holds {held}", f"act as an identity that is {may}", code="role_missing"
    )


def demand_enabled(identity: Identity) -> None:
    """Returns when the identity may act at all. Raises Forbidden."""
    if identity.disabled_at is not None:
        raise Forbidden(f"{identity.name} is disabled", "act as another, or ask an admin to add a new identity", code="identity_disabled")
    if identity.pending:
        raise Forbidden(
            f"{identity.name} waits for the signature of a second admin",
            f"ask another admin to run: tailorbird identity confirm {identity.name}",
        )
