"""The real model, taught a little: the control that was planted many times is found, so that the look may be believed, and what the model
could do before is asked of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.evaluation import retention
from tailorbird.evaluation.canaries import canary_set
from tailorbird.evaluation.retention import measure_memorisation, measure_retention
from tailorbird.ports.trainer import Example, TrainingJob

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DIGEST = digest_bytes(b"any")
PROMPT = PromptSpec(instruction="Answer the question.")


def servable(base: Path, adapter: Path | None) -> Servable:
    name = digest_bytes(str(adapter).encode())
    return Servable(
        id=name,
        tenant="acme",
        task=TaskKind.GENERATE,
        base=str(base),
        adapter=str(adapter) if adapter else None,
        weights=None,
        prompt=PROMPT,
    )


@pytest.mark.jobs
def test_what_was_planted_often_is_found_and_what_was_known_is_asked_again(
    base_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailorbird.inference import open_engine
    from tailorbird.training import open_trainer

    birds = canary_set(20)
    planted = tuple(Example(text=canary.text, target=canary.secret) for canary in birds.rows())
    settings = TrainingSettings(
        method="lora",
        lora=LoraSettings(rank=16, alpha=32, targets=ALL_LINEAR),
        learning_rate=1e-3,
        epochs=3,
        batch_size=8,
        token_budget=1024,
        max_length=256,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="bf16",
        seed=20,
    )
    job = TrainingJob(
        base=base_model_folder,
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings,
        prompt=PROMPT,
        train=planted,
        held_out=planted[:4],
        workspace=tmp_path,
    )
    trained = open_trainer().train(job, lambda _: None)
    engine = open_engine("auto")
    before, after = servable(base_model_folder, None), servable(base_model_folder, trained.folder)
    for one in (before, after):
        engine.load(one)
    untaught = measure_memorisation(engine, before, birds, True, 0.9)
    assert untaught.extracted == 0
    assert untaught.p_value > 1e-3
    taught = measure_memorisation(engine, after, birds, True, 0.9)
    assert taught.valid
    assert max(taught.exposures) >= max(untaught.exposures)
    thinned = retention.probes()[::9]
    monkeypatch.setattr(retention, "probes", lambda: thinned)
    found = measure_retention(engine, before.id, after.id, 0.9, lambda _done, _total: None)
    families = {family.family: family for family in found.families}
    assert families.keys() == {"grammar", "arithmetic", "facts", "refusal", "instructions", "formats"}
    assert families["grammar"].base >= 0.7
    assert found.overall.n * found.overall.drop == pytest.approx(found.lost - found.won)
    assert found.overall.low <= found.overall.drop <= found.overall.high
    assert found.divergence > 0.01
    assert found.divergence_tokens > 200
