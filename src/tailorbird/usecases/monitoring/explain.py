"""From an answer back to everything that stands behind it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import PromptSearch
from tailorbird.domain.release import Release
from tailorbird.ledger import UnitOfWork
from tailorbird.reporting.documents import Explanation
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance.health import approval_remarks
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.releases.rules import ranker_behind

#: The id in the header of a response.
ResponseId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


@usecase("request.explain", "GET", "/api/requests/{request}", Action.EXPLAIN)
def explain_request(deps: Dependencies, actor: Actor, request: ResponseId) -> Explanation:
    """Show everything that stands behind an answer.

    From the request's row to the release that answered it and to all that the release stands on. Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        row = work.requests.get(request)
        if row.release is None:
            return Explanation(request=row)
        release = work.releases.get(row.release)
        content, dossier = release.content, release.dossier
        ladder = work.records.get(Ladder, dossier.ladder)
        return Explanation(
            request=row,
            release=release,
            objective=work.records.get(Objective, content.objective),
            gate=work.records.get(GateResult, dossier.gate),
            evidence=work.records.get(Evidence, dossier.test_evidence),
            manifest=work.records.get(SnapshotManifest, content.snapshot),
            plan=work.records.get(Plan, dossier.plan),
            ladder=ladder,
            events=work.events.about(release.digest),
            ranker=ranker_behind(work, release),
            search=_search_behind(work, ladder, release),
            remarks=approval_remarks(deps, work),
        )


def _search_behind(work: UnitOfWork, ladder: Ladder, release: Release) -> PromptSearch | None:
    """The log of the search that found the release's prompt; None where none did, or where an erasure took it."""
    made = next((climb.search for climb in ladder.climbs if climb.candidate == release.content.candidate), None)
    return work.records.get(PromptSearch, made) if made in work.records.digests(PromptSearch) and made else None
