"""How sure intervals are, in sentences."""

from __future__ import annotations

from tailorbird.domain.objective import RiskTier
from tailorbird.stats.intervals import spend


def confidence_text(risk: RiskTier) -> str:
    """At which confidence targets are proven and differences told, by the objective's tier, and why a look's is higher than the tier's."""
    tier, first = risk.confidence, spend(risk.confidence, 1)
    return (
        f"targets are proven at {tier:.0%} confidence (risk: {risk.value}); all looks at the sealed test share the {1 - tier:.0%} of error "
        f"that this leaves: a first look, and dev, are judged at {first:.1%}, each later look at more; differences of rungs at {tier:.0%}"
    )
