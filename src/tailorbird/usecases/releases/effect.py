"""Effect of releases: the proof that was signed with one, and an engine's failure to show it."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.effect import EffectProof
from tailorbird.domain.errors import Conflict, TailorbirdError
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Release
from tailorbird.ports.engine import LoadRequest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.stats.effect_distance import is_provable
from tailorbird.usecases.approvals import anchored_people, verify_release
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.releases.load_verification import record_refusal


def demand_effect(work: UnitOfWork, release: Release, objective: Objective) -> None:
    """Raises Conflict (``effect_unprovable``) where the tier is high and the release's proof shows nothing, and nobody excepted it by name.

    A release older than proofs, or without weights of its own, is not held up: there is nothing that a loading could leave out unseen, or
    nobody measured it.
    """
    if release.content.risk is not RiskTier.HIGH or release.dossier.effect is None or objective.excepts("effect"):
        return
    proof = work.records.get(EffectProof, release.dossier.effect)
    if not is_provable(proof):
        raise Conflict(
            f"no engine can be shown to apply release {short(release.digest)}: {proof.unprovable}",
            'name who takes that, `exceptions: [{rule: effect, by: NAME, because: "..."}]`, or train longer; then adapt again',
            code="effect_unprovable",
        )


@dataclass(frozen=True)
class RecordedProofs:
    """Proofs as they stand in the record."""

    deps: Dependencies

    def proof(self, request: LoadRequest) -> EffectProof | None:
        """Proof of a release; its dossier, which names it, must be signed. Raises NotFound, Corrupt, Forbidden."""
        with self.deps.ledger.work(request.tenant, write=False) as work:
            release = work.releases.get(request.release)
            if release.dossier.effect is None:
                return None
            verify_release(release, anchored_people(work, release))
            return work.records.get(EffectProof, release.dossier.effect)

    def refused(self, request: LoadRequest, error: TailorbirdError) -> None:
        """Enters the refusal in the log."""
        record_refusal(self.deps, request, error)
