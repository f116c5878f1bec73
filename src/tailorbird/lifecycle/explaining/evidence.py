"""The grounds of a run's decision, gathered for one page.

In: a run's id. Out: ``EvidenceFacts``. Must not know: how they are shown.
"""

from __future__ import annotations

from typing import TypeVar

from tailorbird.domain.breakdown import Breakdown
from tailorbird.domain.ladder import Climb
from tailorbird.domain.safety import Memorisation, Retention
from tailorbird.domain.value import Digest, Value
from tailorbird.lifecycle.explaining.reports import RunReport, report
from tailorbird.lifecycle.parts import Parts
from tailorbird.lifecycle.releasing import reviewing
from tailorbird.reporting import EvidenceFacts

V = TypeVar("V", bound=Value)


def evidence_of(parts: Parts, tenant: str, run: str) -> EvidenceFacts:
    """What is known of a run, as far as it has come. Raises NotFound, Corrupt."""
    told = report(parts, tenant, run)
    shown = _shown(told)
    evidence = told.evidence or (shown.evidence if shown else None)
    release = told.conclusion.release if told.conclusion else None
    return EvidenceFacts(
        run=told.run.id,
        objective=told.objective,
        plan=told.plan,
        ladder=told.ladder,
        gate=told.gate or (shown.gate if shown else None),
        evidence=evidence,
        sealed=told.gate is not None,
        breakdown=_kept(parts, Breakdown, evidence.breakdown if evidence else None),
        retention=_kept(parts, Retention, evidence.retention if evidence else None),
        memorisation=_kept(parts, Memorisation, evidence.memorisation if evidence else None),
        review=reviewing.standing(parts, tenant, release).result if release else None,
        release=release,
        reason=told.conclusion.reason if told.conclusion else "",
    )


def _shown(told: RunReport) -> Climb | None:
    """The climb that the page is about: the one that was looked at on the sealed test, else the chosen one, else the last."""
    chosen = told.test.candidate if told.test else told.ladder.chosen if told.ladder else None
    measured = told.ladder.measured if told.ladder else told.climbs
    return next((climb for climb in measured if climb.candidate == chosen), told.climbs[-1] if told.climbs else None)


def _kept(parts: Parts, kind: type[V], digest: Digest | None) -> V | None:
    return None if digest is None else kind.model_validate_json(parts.artifacts.get(digest))
