"""What an engine may load: only what is signed, intact and, for production, approved."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from tailorbird import rungs
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, NotFound, TailorbirdError
from tailorbird.domain.event import Event
from tailorbird.domain.evidence import EffectProof
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Release
from tailorbird.ledger import UnitOfWork
from tailorbird.ports.engine import LoadRequest
from tailorbird.release import rule_for
from tailorbird.release.reference_probes import is_provable
from tailorbird.usecases.anchored_rows import demand_anchored
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.maintenance.audit import demand_no_fork
from tailorbird.usecases.releases.rules import anchored_people, is_approved, verify_release


def admit(deps: Dependencies, request: LoadRequest) -> Servable:
    """The servable of a release, after checking content digest, signature, approvals and every artifact byte, and that release, people and
    aliases are as the log anchors them.

    For production, the log must continue what every place for checkpoints holds. Raises NotFound, Conflict (it does not), Corrupt (bytes,
    signature, a row), Forbidden (not approved for production). A refusal enters the log.
    """
    try:
        return _admit(deps, request)
    except TailorbirdError as error:
        record_refusal(deps, request, error)
        raise


def admit_hosted(deps: Dependencies, request: LoadRequest) -> Servable | None:
    """The same for a release that a hosted model answers; None for one of this machine, which the engine admits or refuses itself."""
    hosted = None
    with suppress(NotFound, Corrupt), deps.ledger.work(request.tenant, write=False) as work:
        hosted = work.releases.get(request.release).content.hosted
    return admit(deps, request) if hosted else None


def _admit(deps: Dependencies, request: LoadRequest) -> Servable:
    if request.purpose == "production":
        demand_no_fork(deps)
    with deps.ledger.work(request.tenant, write=False) as work:
        release = work.releases.get(request.release)
        people = {person.name: person for person in work.identities.all()}
        objective = work.records.get(Objective, release.content.objective)
        names = work.aliases.all([objective.name], stage=None)
        demand_anchored(work, release, *people.values(), *names)
    verify_release(release, people)
    if request.purpose == "production" and not is_approved(release, rule_for(objective), people):
        raise Forbidden(
            f"release {short(release.digest)} is not approved for production",
            f"ask an approver to run: tailorbird release approve {short(release.digest)}",
            code="not_approved",
        )
    return _materialise(deps, release)


def _materialise(deps: Dependencies, release: Release) -> Servable:
    content, deps = release.content, deps.for_tenant(release.content.tenant)
    return Servable(
        id=release.digest,
        tenant=content.tenant,
        task=content.task,
        base=str(deps.artifacts.get_tree(content.base_model)) if content.floor is None and content.hosted is None else "",
        adapter=str(deps.artifacts.get_tree(content.adapter)) if content.adapter else None,
        weights=str(deps.artifacts.get_tree(content.weights)) if content.weights else None,
        prompt=content.prompt,
        retrieval=rungs.local_retrieval(content.retrieval, deps.artifacts) if content.retrieval else None,
        floor=str(deps.artifacts.get_tree(content.floor)) if content.floor else None,
        hosted=content.hosted,
        encoder=str(deps.artifacts.get_tree(content.encoder)) if content.encoder else None,
    )


def record_refusal(deps: Dependencies, request: LoadRequest, error: TailorbirdError) -> None:
    """Enters in the log that an engine did not take a release, and why."""
    event = Event(
        kind="release.load_refused",
        tenant=request.tenant,
        actor="engine",
        subject=request.release,
        at=deps.clock.now(),
        data={"purpose": request.purpose, "code": error.error_code},
    )
    with suppress(TailorbirdError), deps.ledger.system() as system:  # a log that takes nothing any more is no reason to tell something else
        system.events.append([event])


def demand_effect(work: UnitOfWork, release: Release, objective: Objective) -> None:
    """Raises Conflict (``effect_unprovable``) where the tier is high and the release's proof shows nothing, and nobody excepted it by name.

    A release without weights of its own in a language model is not held up: there is nothing that a loading could leave out unseen.
    """
    if release.content.risk is not RiskTier.HIGH or release.dossier.effect is None or objective.excepts("effect"):
        return
    proof = work.records.get(EffectProof, release.dossier.effect)
    if not (proof.is_absolute or is_provable(proof)):
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
