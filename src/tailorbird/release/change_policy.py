"""What each risk tier demands before production may change."""

from __future__ import annotations

from datetime import timedelta

from tailorbird.domain.objective import RiskTier
from tailorbird.domain.value import Value

#: A drill that is older proves nothing any more.
DRILL_LASTS = timedelta(days=30)


class ChangeRule(Value):
    """``canary``: a release that replaces another passes a rollout first. ``drill``: it was put in and taken back in staging lately.
    ``operators``: so many different ones ask for the change."""

    canary: bool
    drill: bool
    operators: int


_TIERS = {
    RiskTier.MINIMAL: ChangeRule(canary=False, drill=False, operators=1),
    RiskTier.LIMITED: ChangeRule(canary=True, drill=False, operators=1),
    RiskTier.HIGH: ChangeRule(canary=True, drill=True, operators=2),
}


def change_rule(*tiers: RiskTier) -> ChangeRule:
    """What any of the tiers demands: those of the release and of what it replaces, so that an edit lowers nothing."""
    rules = [_TIERS[tier] for tier in tiers]
    return ChangeRule(
        canary=any(rule.canary for rule in rules),
        drill=any(rule.drill for rule in rules),
        operators=max(rule.operators for rule in rules),
    )
