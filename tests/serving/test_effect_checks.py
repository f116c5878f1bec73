"""A release answers once its engine has shown what the release changes; with any other mapping the former one serves on."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from support.doubles import MemoryEngine
from support.effects import FAULTS, KINDS, FaultyDriver, ToldProofs, faulty, write_twin_adapter
from support.serving import DirectDriver, House, digest, scoring, until
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.evidence import EffectProof, EffectStanding, ReferenceProbe, chances_of_labels
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.ports.engine import LabelScores, LoadRequest, ScoreRequest
from tailorbird.release import PROBE_TEXTS, choose_of_scores
from tailorbird.serving.effect_checks import EffectChecks
from tailorbird.serving.reconciler import Reconciler
from tailorbird.usecases.runs.sealed_test import effect_proof

ID = digest("adapted")


def adapted(adapter: Path, name: str = "adapted") -> Servable:
    given = {"id": digest(name), "tenant": "acme", "task": TaskKind.GENERATE, "base": "base", "weights": None}
    return Servable(**given, adapter=str(adapter), prompt=PromptSpec(instruction=""))


@pytest.fixture
def servable(tmp_path: Path) -> Servable:
    return adapted(write_twin_adapter(tmp_path / "adapter", 1))


@pytest.fixture
def proof(servable: Servable, tmp_path: Path) -> EffectProof:
    return effect_proof(MemoryEngine(), servable, tmp_path)


def request(release: str = ID) -> LoadRequest:
    return LoadRequest(tenant="acme", release=release, purpose="production")


def test_what_was_measured_is_shown_again(servable: Servable, proof: EffectProof) -> None:
    assert not proof.unprovable
    assert set(proof.parts) == set(KINDS)
    checks = EffectChecks(FaultyDriver(MemoryEngine(), servable), ToldProofs(proof))
    asyncio.run(checks.load(request()))
    assert asyncio.run(checks.status()).loaded == (ID,)
    reading = checks.readings[ID]
    assert (reading.standing, reading.distance) == (EffectStanding.SHOWN, pytest.approx(0.0, abs=1e-3))
    assert reading.effect == pytest.approx(proof.effect, abs=1e-3)


@pytest.mark.parametrize("fault", [*FAULTS[:3], *KINDS])
def test_another_mapping_is_refused_and_told_of(house: House, servable: Servable, proof: EffectProof, tmp_path: Path, fault: str) -> None:
    wrong = faulty(servable, fault, tmp_path, write_twin_adapter(tmp_path / "another", 2))
    driver, proofs = FaultyDriver(MemoryEngine(), wrong), ToldProofs(proof)
    checks = EffectChecks(driver, proofs)
    with pytest.raises(Corrupt) as refused:
        asyncio.run(checks.load(request()))
    code = "adapter_inert" if fault == "dropped" else "adapter_differs"
    assert (refused.value.error_code, proofs.refusals) == (code, [code])
    assert checks.readings[ID].standing.value == code.removeprefix("adapter_")
    assert asyncio.run(checks.status()).loaded == driver.engine.loaded() == ()


def test_an_engine_that_was_restarted_is_asked_again_base_included(servable: Servable, proof: EffectProof) -> None:
    driver = FaultyDriver(MemoryEngine(), servable)
    checks = EffectChecks(driver, ToldProofs(proof))

    async def story() -> None:
        await checks.load(request())
        driver.engine, driver.given = MemoryEngine(), servable.model_copy(update={"base": "upgraded"})
        assert (await checks.status()).loaded == ()
        with pytest.raises(Corrupt):
            await checks.load(request())
        driver.given = servable
        await checks.load(request())

    asyncio.run(story())
    assert checks.readings[ID].standing is EffectStanding.SHOWN


@pytest.mark.parametrize(
    ("given", "standing"),
    [(None, EffectStanding.UNPROVEN), (EffectProof(unprovable="no probe shows anything"), EffectStanding.UNPROVABLE)],
)
def test_a_release_without_proof_is_loaded_and_told_as_that(
    servable: Servable, given: EffectProof | None, standing: EffectStanding
) -> None:
    checks = EffectChecks(FaultyDriver(MemoryEngine(), servable), ToldProofs(given))
    asyncio.run(checks.load(request()))
    assert checks.readings[ID].standing is standing
    assert asyncio.run(checks.status()).loaded == (ID,)


class ScoringDriver(FaultyDriver):
    """A driver whose engine scores labels by ``lead`` nats in favour of the longest."""

    lead = 3.0

    async def score(self, request: ScoreRequest) -> LabelScores:
        weights = [self.lead * (len(label) * len(request.prompt[-1].content) % 7) for label in request.labels]
        whole = math.log(sum(map(math.exp, weights)))
        return LabelScores(log_probabilities=tuple(weight - whole for weight in weights), prompt_tokens=0, latency_ms=1.0)


def test_a_floor_that_scores_otherwise_is_refused(servable: Servable) -> None:
    floor = servable.model_copy(update={"adapter": None, "base": ""})
    driver, labels = ScoringDriver(MemoryEngine(), floor), ("refund", "lost card", "top up")

    async def told(text: str) -> ReferenceProbe:
        question = (Message(role="user", content=text),)
        chances = chances_of_labels(labels, (await driver.ask(scoring(ID, question, labels))).log_probabilities)
        return ReferenceProbe(text=text, base=chances, candidate=chances)

    async def story() -> EffectChecks:
        proof = choose_of_scores([await told(text) for text in PROBE_TEXTS], labels)
        assert (proof.unprovable, len(proof.probes)) == ("", 4)
        checks = EffectChecks(driver, ToldProofs(proof))
        await checks.load(request())
        assert checks.readings[ID].standing is EffectStanding.SHOWN
        await checks.unload(ID)
        driver.lead = 2.0
        with pytest.raises(Corrupt):
            await checks.load(request())
        return checks

    assert asyncio.run(asyncio.wait_for(story(), 10)).readings[ID].standing is EffectStanding.DIFFERS


def test_the_former_release_serves_on_where_the_next_is_inert(house: House, servable: Servable, proof: EffectProof) -> None:
    first, second = house.release(1, task=TaskKind.GENERATE), house.release(2, task=TaskKind.GENERATE)

    class SecondAlone(ToldProofs):
        def proof(self, request: LoadRequest) -> EffectProof | None:
            return self.given if request.release == second else None

    proofs = SecondAlone(proof)
    # The driver of the house maps no adapter at all: what it loads is the base.
    checks = EffectChecks(DirectDriver(house), proofs)
    sync = Reconciler(house.ledger, checks, house.clock)

    async def story() -> None:
        await sync.start()
        try:
            house.point("assist", first)
            await until(lambda: sync.readiness().live == 1)
            house.point("assist", second)
            await until(lambda: bool(proofs.refusals))
            route = sync.routes.live("acme/assist")
            assert route is not None
            assert [target.release for target in route.alias.targets] == [first]
            assert sync.readiness().behind == 1
        finally:
            await sync.stop()

    asyncio.run(story())
    assert set(proofs.refusals) <= {"adapter_inert", "adapter_differs"}
