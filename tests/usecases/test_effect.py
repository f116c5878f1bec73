"""Proof of effect from the run that makes a release to the loading that is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryEngine
from support.usecases import NO_REFERRAL, somebody, write_objective
from tailorbird.domain.errors import Conflict, Corrupt
from tailorbird.domain.evidence import EffectProof, TokenChances
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.ports.engine import LoadRequest, ProbeRequest
from tailorbird.release import PROBE_TEXTS
from tailorbird.release.reference_probes import effect_reading, is_provable
from tailorbird.serving.effect_checks import unlike
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.releases.load_verification import RecordedProofs, demand_effect
from tailorbird.usecases.releases.promotion import sign_and_decide, stage
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.releases.rules import verify_release
from tailorbird.usecases.runs.submit import adapt


@pytest.fixture
def release(deps: Dependencies, author: Actor, tmp_path: Path) -> Release:
    """A release with an adapter."""
    ended = adapt(deps, author, write_objective(tmp_path / "job", ladder=["lora"]), Progress())
    assert ended.conclusion.release is not None
    return show_release(deps, author, ended.conclusion.release)


def loading(release: Release) -> LoadRequest:
    return LoadRequest(tenant="acme", release=release.digest, purpose="staging")


def test_a_release_with_an_adapter_carries_its_proof_signed(deps: Dependencies, release: Release) -> None:
    assert release.content.adapter is not None
    proof = RecordedProofs(deps).proof(loading(release))
    assert is_provable(proof)
    assert proof.engine == MemoryEngine().fingerprint()
    assert {probe.text for probe in proof.probes} <= set(PROBE_TEXTS)


def test_a_proof_that_was_exchanged_is_not_believed(deps: Dependencies, release: Release) -> None:
    other = release.model_copy(update={"dossier": release.dossier.model_copy(update={"effect": release.dossier.plan})})
    with deps.ledger.work("acme") as work:
        work.records.put(EffectProof(unprovable="nothing to see"))
        people = {person.name: person for person in work.identities.all()}
    verify_release(release, people)
    with pytest.raises(Corrupt):
        verify_release(other, people)


def made_by(deps: Dependencies, author: Actor, folder: Path, rung: str) -> Release:
    ended = adapt(deps, author, write_objective(folder, ladder=[rung]), Progress())
    return show_release(deps, author, str(ended.conclusion.release))


def test_a_floor_is_proven_by_its_scores(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    made = made_by(deps, author, tmp_path / "job", "floor")
    proof = RecordedProofs(deps).proof(loading(made))
    assert (proof.kind, proof.labels) == ("scores", made.content.prompt.answers)
    with deps.ledger.work("acme", write=False) as work:
        risky = made.model_copy(update={"content": made.content.model_copy(update={"risk": RiskTier.HIGH})})
        demand_effect(work, risky, work.records.get(Objective, made.content.objective))


def test_a_refusal_stands_in_the_log_with_its_code(deps: Dependencies, release: Release) -> None:
    proofs = RecordedProofs(deps)
    proof = proofs.proof(loading(release))
    base = [probe.base for probe in proof.probes]
    error = unlike(release.digest, effect_reading(proof, base, base))
    assert error is not None
    proofs.refused(loading(release), error)
    with deps.ledger.system(write=False) as system:
        last = [entry.event for entry in system.events.entries()][-1]
    assert (last.kind, last.subject, last.data["code"]) == ("release.load_refused", release.digest, "adapter_inert")
    assert verify_log(deps, somebody("auditor")).problems == ()


class InertEngine(MemoryEngine):
    """Answers every probe as its base does."""

    def probe(self, request: ProbeRequest) -> list[TokenChances]:
        return super().probe(request.model_copy(update={"bare": True}))


def test_staging_at_high_risk_refuses_what_no_engine_can_be_shown_to_apply(
    deps: Dependencies, author: Actor, operator: Actor, tmp_path: Path
) -> None:
    deps = replace(deps, engine=InertEngine)
    business = {"goal": "Route messages.", "owner": "support", "risk": "high"}
    taken = {"rule": "effect", "by": "head of support", "because": "every answer is read"}
    for exceptions in (NO_REFERRAL, [*NO_REFERRAL, taken]):
        objective = write_objective(tmp_path / "job", business=business, exceptions=exceptions, ladder=["lora"])
        ended = adapt(deps, author, objective, Progress())
        digest = str(ended.conclusion.release)
        for name in ("approver", "reviewer"):
            sign_and_decide(deps, act_as(deps, "acme", name), digest, "approve", "read")
        if taken in exceptions:
            assert stage(deps, operator, digest).state is ReleaseState.STAGED
            continue
        with pytest.raises(Conflict) as refused:
            stage(deps, operator, digest)
        assert refused.value.error_code == "effect_unprovable"
        assert show_release(deps, operator, digest).state is ReleaseState.APPROVED
