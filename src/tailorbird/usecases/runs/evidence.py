"""The grounds of a run's decision, gathered for one page."""

from __future__ import annotations

from typing import TypeVar

from tailorbird.auth import Action
from tailorbird.domain.evidence import Breakdown, Memorisation, Retention
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.run import results_of
from tailorbird.domain.value import Digest, Value
from tailorbird.reporting import EvidenceFacts
from tailorbird.usecases.climb.floor import floor_climb_of, refused_floor
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.key_custody import approval_remarks
from tailorbird.usecases.label_reviews import label_review
from tailorbird.usecases.registry import RunId, usecase
from tailorbird.usecases.runs.run_queries import RunReport, show_run
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.rung_approval import allowances_of

V = TypeVar("V", bound=Value)


@usecase("run.evidence", "GET", "/api/runs/{run}/evidence", Action.SHOW_RUN)
def show_evidence(deps: Dependencies, actor: Actor, run: RunId) -> EvidenceFacts:
    """Show the grounds of a run's decision.

    As far as the run has come. Raises NotFound, Corrupt.
    """
    told = _with_ladder(deps, show_run(deps, actor, run))
    shown = _shown(told)
    evidence = told.evidence or (shown.evidence if shown else None)
    release = told.conclusion.release if told.conclusion else None
    with deps.ledger.work(actor.tenant, write=False) as work:
        remarks, allowances = approval_remarks(deps, work), allowances_of(work, told.run.id)
    return EvidenceFacts(
        run=told.run.id,
        objective=told.objective,
        plan=told.plan,
        ladder=told.ladder,
        gate=told.gate or (shown.gate if shown else None),
        evidence=evidence,
        sealed=told.gate is not None,
        judged=transitions.named(shown) if shown else "",
        remedies=told.remedies,
        breakdown=_kept(deps, Breakdown, evidence.breakdown if evidence else None),
        retention=_kept(deps, Retention, evidence.retention if evidence else None),
        memorisation=_kept(deps, Memorisation, evidence.memorisation if evidence else None),
        review=label_review.show_review(deps, actor, release).result if release else None,
        release=release,
        reason=told.conclusion.reason if told.conclusion else "",
        approval_remarks=remarks,
        allowances=allowances,
    )


def _with_ladder(deps: Dependencies, told: RunReport) -> RunReport:
    """The run with the ladder as far as it has been climbed, where it waits or goes on."""
    done = results_of(told.steps)
    if told.ladder is not None or told.plan is None or not (told.climbs or transitions.FLOOR in done):
        return told
    with deps.ledger.work(told.run.tenant, write=False) as work:
        floor = floor_climb_of(work, told.objective, done[transitions.FLOOR]) if transitions.FLOOR in done else None
    waits = next((step.message for step in reversed(told.steps) if step.error and step.message), "the climb goes on")
    ladder = Ladder(
        floor=floor,
        climbs=told.climbs,
        refused=(*refused_floor(told.plan), *told.plan.left_out),
        chosen=None,
        reason=f"none yet: {waits}",
        floor_is_rung=transitions.floor_is_rung(told.objective, told.plan),
        compared_on=told.plan.comparison.metric if told.plan.comparison else "",
    )
    return told.model_copy(update={"ladder": ladder})


def _shown(told: RunReport) -> Climb | None:
    """The climb that the page is about: the one that was looked at on the sealed test, else the chosen one, else the closest to passing."""
    chosen = told.test.candidate if told.test else told.ladder.chosen if told.ladder else None
    measured = told.ladder.measured if told.ladder else told.climbs
    return next((climb for climb in measured if climb.candidate == chosen), transitions.closest(measured) if measured else None)


def _kept(deps: Dependencies, kind: type[V], digest: Digest | None) -> V | None:
    return None if digest is None else kind.model_validate_json(deps.artifacts.get(digest))
