"""What an engine may load: only what is signed, intact and, for production, approved."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from tailorbird import rungs
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import EffectProof, EffectReading, EffectStanding, TokenChances, chances_of_labels
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, NotFound, TailorbirdError
from tailorbird.domain.event import Event
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import LoadRequest, OutsideDriver, ProbeRequest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.release import rule_for
from tailorbird.serving import unlike
from tailorbird.stats.effect_distance import effect_reading, is_provable
from tailorbird.usecases.anchored_rows import demand_anchored
from tailorbird.usecases.approvals import anchored_people, is_approved, verify_release
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance.checkpoint_shipping import demand_no_fork
from tailorbird.usecases.registry import local
from tailorbird.usecases.releases.release_queries import show_release


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

    A release older than proofs, or without weights of its own in a language model, is not held up: there is nothing that a loading could
    leave out unseen, or nobody measured it.
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


class EffectReport(Value):
    """What an engine showed of a release. ``proven`` are the kinds of modules whose absence it would have shown; ``unprovable`` as in the
    proof."""

    release: Digest
    reading: EffectReading
    proven: tuple[str, ...] = ()
    unprovable: str = ""


@local(Action.STAGE)
def verify_effect(
    deps: Dependencies, actor: Actor, digest: str, driver: OutsideDriver | None = None, *, adapters_only: bool = False
) -> EffectReport:
    """Has an engine show what a release changes: the server behind ``driver``, or our own, in this process. It is entered in the log.

    What the server holds stays loaded, and what it did not hold is taken out again. A server that holds no adapter yet may be answering
    for the bare base, whose answers one would spoil: it is given one where the caller says that it does not (``adapters_only``). Raises
    NotFound, Corrupt and Forbidden as a loading does, Conflict (``driver_unable``), and Corrupt (``adapter_inert``, ``adapter_differs``).
    """
    deps = deps.for_tenant(actor.tenant)
    release = show_release(deps, actor, digest)
    request = LoadRequest(tenant=actor.tenant, release=release.digest, purpose="staging")
    proof = RecordedProofs(deps).proof(request)
    if proof is None or not is_provable(proof):
        admit(deps, request)  # no engine is asked, which would verify the release first
        standing = EffectStanding.UNPROVEN if proof is None else EffectStanding.UNPROVABLE
        return EffectReport(release=release.digest, reading=EffectReading(standing=standing), unprovable=proof.unprovable if proof else "")
    asked = ProbeRequest(release=release.digest, prompts=tuple(probe.prompt for probe in proof.probes))
    bare = asked.model_copy(update={"bare": True}) if proof.kind == "adapter" else None
    if driver is None:
        candidate, base = _asked_here(deps, request, proof, (asked, bare))
    else:
        candidate, base = asyncio.run(_Visit(driver, request, adapters_only).asked(asked, bare))
    reading = effect_reading(proof, candidate, base)
    facts: Facts = {"standing": reading.standing.value, "distance": reading.distance, "noise": reading.noise}
    with deps.ledger.work(actor.tenant) as work:
        record(work, "release.effect_read", actor.name, release.digest, deps.clock.now(), facts)
    if (error := unlike(release.digest, reading)) is not None:
        raise error
    return EffectReport(release=release.digest, reading=reading, proven=tuple(kind for kind in proof.parts if kind not in reading.unshown))


_Sides = tuple[list[TokenChances], list[TokenChances] | None]


def _asked_here(deps: Dependencies, request: LoadRequest, proof: EffectProof, asked: tuple[ProbeRequest, ProbeRequest | None]) -> _Sides:
    engine, (alone, bare) = deps.engine(), asked
    engine.load(admit(deps, request))
    try:
        if proof.kind == "scores":
            scored = engine.score(request.release, alone.prompts, proof.labels)
            return [chances_of_labels(proof.labels, one.log_probabilities) for one in scored], None
        return engine.probe(alone), engine.probe(bare) if bare else None
    finally:
        engine.unload(request.release)


@dataclass(frozen=True)
class _Visit:
    """A release at a server that others use: it is left as it was found."""

    driver: OutsideDriver
    request: LoadRequest
    adapters_only: bool

    async def asked(self, asked: ProbeRequest, bare: ProbeRequest | None) -> _Sides:
        """What the server answers. Raises what it refuses with, and Conflict where it may be answering for the bare base."""
        try:
            held = await self.driver.adapters()
            if held and bare is None:
                raise Conflict(
                    "the server holds adapters: what it answers for the bare base may be a neighbour's",
                    "ask a server that serves releases without an adapter",
                    code="driver_unable",
                )
            if bare is not None and held is not None and not held and not self.adapters_only:
                raise Conflict(
                    "the server holds no adapter: one beside requests for the bare base would spoil their answers",
                    "where no release without an adapter is served there, say so: --adapters-only",
                    code="driver_unable",
                )
            return await self._loaded_and_asked(asked, bare, held is not None and self.request.release not in held)
        finally:
            await self.driver.close()

    async def _loaded_and_asked(self, asked: ProbeRequest, bare: ProbeRequest | None, guest: bool) -> _Sides:
        try:
            await self.driver.load(self.request)
            candidate = await self.driver.probe(asked)
            assert candidate is not None
            return candidate, await self.driver.probe(bare) if bare else None
        finally:
            if guest:
                await self.driver.unload(self.request.release)


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
