"""Effect of releases: the proof that was signed with one, and an engine's failure to show it."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.effect import EffectProof
from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases.approvals import anchored_people, verify_release
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.releases.load_verification import record_refusal


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
