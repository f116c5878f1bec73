"""The encoder that is tuned for labels: its job, its artifact, and a real one that the engine serves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.e2e import support_rows
from support.rungs import LABELS, D, build_context, make_plan_of, make_rows, make_settings
from support.tiny_encoder import LABELS as TINY_LABELS
from support.tiny_encoder import text_of, tuning_settings, write_tiny_encoder
from tailorbird.chat.prompts import messages_for
from tailorbird.domain.dataset import Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.inference import open_encoder, open_engine
from tailorbird.ledger import open_artifacts
from tailorbird.rungs import encoder_job, make_candidate
from tailorbird.rungs.encoder import parts_of, sureness
from tailorbird.text.linear_classifier import ADAPTER, ENCODER, read_linear
from tailorbird.training import open_trainer

INTENTS = ("account_login", "order_status", "refund_missing")


def test_its_job_learns_train_and_the_names_of_labels_and_divides_each_label_over_the_parts(tmp_path: Path) -> None:
    plan = make_plan_of("encoder", "averaged", training=make_settings("full")).model_copy(update={"encoder": D})
    job = encoder_job(build_context(tmp_path, plan, encoder_folder=tmp_path))
    assert (len(job.train), len(job.held_out), job.alone) == (123, 0, False)
    assert [(row.text, row.labels) for row in job.train[120:]] == [(label, (label,)) for label in LABELS]
    divided = Counter((row.labels[0], part) for row, part in zip(job.train, job.parts, strict=True))
    assert divided == {(label, part): 33 if part < 0 else 2 for label in LABELS for part in range(-1, 4)}
    assert (job.base, job.base_digest) == (tmp_path, D)


def test_rows_of_a_group_are_of_one_part() -> None:
    rows = make_rows(60, groups=12)
    parts = parts_of(rows, 7)
    assert len({(row.group, part) for row, part in zip(rows, parts, strict=True)}) == 12
    assert set(parts) == {-1, 0, 1, 2, 3}
    assert parts == parts_of(rows, 7)
    with pytest.raises(DataInvalid, match="of one group"):
        parts_of(make_rows(6, groups=1), 7)


def sized(*sizes: int) -> tuple[Row, ...]:
    """Rows of groups of so many rows."""
    names = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    return tuple(row.model_copy(update={"group": name}) for row, name in zip(make_rows(len(names)), names, strict=True))


@pytest.mark.parametrize(
    ("sizes", "lacked"),
    [
        ((240, *[1] * 160), [8, 8, 8, 8]),
        ((41, 40, *[1] * 319), [17, 17, 17, 17]),
        ((240, 80, 80), [80, 80]),
        ((240, 160), [160, 240]),
        ((399, 1), [1, 399]),
        ((100, 100, 100, 100), [100, 100, 100, 100]),
    ],
)
def test_parts_are_of_like_many_rows_and_a_large_group_is_learned_by_all(sizes: tuple[int, ...], lacked: list[int]) -> None:
    for seed in range(5):
        parts = Counter(parts_of(sized(*sizes), seed))
        assert sorted(count for part, count in parts.items() if part >= 0) == lacked
        assert set(range(len(lacked))) == set(parts) - {-1}


def test_it_is_as_sure_as_it_is_right_on_rows_that_it_did_not_learn() -> None:
    nats_BK = np.log(np.array([[0.98, 0.01, 0.01]] * 10))
    assert sureness(nats_BK, [0] * 10) == 5.0, "all right: surer"
    factor = sureness(nats_BK, [0] * 6 + [1] * 4)
    told = np.exp(factor * nats_BK[0])
    assert told[0] / told.sum() == pytest.approx(0.6, abs=0.05)


def test_an_adapter_is_released_beside_its_head_and_names_the_encoder(tmp_path: Path) -> None:
    """A toy encoder tuned by the real trainer: what the engine answers is what the rung fitted."""
    base, texts = write_tiny_encoder(tmp_path / "base"), [text_of(number) for number in range(60)]
    rows = tuple(
        row.model_copy(update={"text": text, "target": TINY_LABELS[place % 2]})
        for place, (row, text) in enumerate(zip(make_rows(60), texts, strict=True))
    )
    settings = tuning_settings("lora", 5e-3, epochs=8, batch_size=8)
    plan = make_plan_of("encoder", "r4, averaged", training=settings).model_copy(update={"encoder": D})
    store = open_artifacts(str(tmp_path / "artifacts"), tmp_path / "cache")
    given = {"encoder": open_encoder, "encoder_folder": base, "artifacts": store, "labels": TINY_LABELS[:2], "train": rows}
    made = make_candidate(replace(build_context(tmp_path / "work", plan, **given), trainer=open_trainer)).candidate
    assert (made.encoder, made.floor is None) == (D, False)
    artifact = store.get_tree(made.floor or "")
    assert sorted(path.name for path in artifact.iterdir()) == ["adapter", "floor.json", "idf.npy", "intercepts.npy", "weights.npy"]
    assert sorted(path.name for path in (artifact / ADAPTER).iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    vectors = open_encoder().embed(base, texts, artifact / ADAPTER)
    fitted = read_linear(artifact).log_probabilities(texts, vectors)
    assert (fitted.argmax(axis=1) == np.arange(60) % 2).mean() > 0.9
    servable = Servable(
        id=D, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=made.prompt, floor=str(artifact)
    )
    engine = open_engine()
    try:
        engine.load(servable.model_copy(update={"encoder": str(base)}))
        found = engine.score(D, [messages_for(made.prompt, text) for text in texts], TINY_LABELS[:2])
        np.testing.assert_allclose([each.log_probabilities for each in found], fitted, atol=1e-4)
    finally:
        engine.close()


def spread(vectors_NH: NDArray[np.float32], labels: list[str]) -> float:
    """How much closer texts of one label lie than those of two, as a cosine."""
    cosines_NN = vectors_NH @ vectors_NH.T
    same_NN = np.equal.outer(np.array(labels), np.array(labels))
    return float(cosines_NN[same_NN].mean() - cosines_NN[~same_NN].mean())


@pytest.mark.slow
def test_a_real_encoder_is_tuned_stored_and_served(encoder_folder: Path, tmp_path: Path) -> None:
    said = support_rows(INTENTS, 30)
    texts, labels = [text for text, _ in said], [label for _, label in said]
    rows = tuple(row.model_copy(update={"text": text, "target": label}) for row, (text, label) in zip(make_rows(90), said, strict=True))
    settings = make_settings("full").model_copy(update={"learning_rate": 2e-4, "epochs": 2, "batch_size": 32})
    plan = make_plan_of("encoder", "all weights", training=settings).model_copy(update={"encoder": D})
    store = open_artifacts(str(tmp_path / "artifacts"), tmp_path / "cache")
    given = {"encoder": open_encoder, "encoder_folder": encoder_folder, "artifacts": store, "labels": INTENTS, "train": rows}
    context = replace(build_context(tmp_path, plan, **given), trainer=open_trainer)
    made = make_candidate(context)
    assert made.candidate.rung is RungKind.ENCODER
    assert made.training.best_held_out_loss < made.training.first_held_out_loss
    assert made.candidate.floor is not None
    artifact = store.get_tree(made.candidate.floor)
    encoder = open_encoder()
    before, after = encoder.embed(encoder_folder, texts), encoder.embed(artifact / ENCODER, texts)
    assert spread(after, labels) > spread(before, labels) + 0.05
    engine = open_engine()
    try:
        servable = Servable(
            id=D,
            tenant="acme",
            task=TaskKind.CLASSIFY,
            base="",
            adapter=None,
            weights=None,
            prompt=made.candidate.prompt,
            floor=str(artifact),
        )
        engine.load(servable)
        asked = "I am locked out: the password for my account is not accepted."
        [found] = engine.score(D, [messages_for(servable.prompt, asked)], INTENTS)
        assert INTENTS[int(np.argmax(found.log_probabilities))] == "account_login"
        assert found.prompt_tokens == 0
    finally:
        engine.close()
