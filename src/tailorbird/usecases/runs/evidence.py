"""The grounds of a run's decision, gathered for one page."""

from __future__ import annotations

from typing import TypeVar

from tailorbird.domain.evidence import Breakdown, Memorisation, Retention
from tailorbird.domain.ladder import Climb
from tailorbird.domain.value import Digest, Value
from tailorbird.reporting import EvidenceFacts
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.label_reviews import label_review
from tailorbird.usecases.runs.reports import RunReport, report

V = TypeVar("V", bound=Value)


def evidence_of(deps: Dependencies, tenant: str, run: str) -> EvidenceFacts:
    """What is known of a run, as far as it has come. Raises NotFound, Corrupt."""
    told = report(deps, tenant, run)
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
        breakdown=_kept(deps, Breakdown, evidence.breakdown if evidence else None),
        retention=_kept(deps, Retention, evidence.retention if evidence else None),
        memorisation=_kept(deps, Memorisation, evidence.memorisation if evidence else None),
        review=label_review.standing(deps, tenant, release).result if release else None,
        release=release,
        reason=told.conclusion.reason if told.conclusion else "",
    )


def _shown(told: RunReport) -> Climb | None:
    """The climb that the page is about: the one that was looked at on the sealed test, else the chosen one, else the last."""
    chosen = told.test.candidate if told.test else told.ladder.chosen if told.ladder else None
    measured = told.ladder.measured if told.ladder else told.climbs
    return next((climb for climb in measured if climb.candidate == chosen), told.climbs[-1] if told.climbs else None)


def _kept(deps: Dependencies, kind: type[V], digest: Digest | None) -> V | None:
    return None if digest is None else kind.model_validate_json(deps.artifacts.get(digest))
