"""The real model, taught a little: the control that was planted many times is found, and the look that finds it may be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.evaluation import measure_memorisation
from tailorbird.foundations.canaries import aviary
from tailorbird.foundations.canonical import digest_bytes
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


@pytest.mark.slow
def test_what_was_planted_often_is_found_and_the_base_model_knows_nothing(base_model_folder: Path, tmp_path: Path) -> None:
    from tailorbird.inference import open_engine
    from tailorbird.training import open_trainer

    birds = aviary(20)
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
